"""`sbs-gym`: the first word is the subcommand, the others are `key=value`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from sbs_gym import __version__
from sbs_gym.errors import SbsGymError, SimulationError, require_choice

# Command, its module in sbs_gym.commands, and one line about it.
COMMANDS = {
    "simulate": ("simulate", "one scheduler on one workload"),
    "reproduce": ("reproduce", "the paper's claims measured: verdicts, pictures, a report"),
    "compare": ("compare", "several schedulers under the same luck, with 95 % intervals"),
    "capacity": ("capacity", "the largest rate at which schedulers keep the SLO"),
    "balance": ("balance", "prefill and decode capacity of a cluster for every workload"),
    "memory": ("memory", "what fills a GPU, and the room left for KV"),
    "drain": ("drain", "how fast a backlog drains under several schedulers"),
    "watch": ("watch", "a run as it happens, in the terminal or as a GIF"),
    "trace-export": ("trace_export", "a run as a trace for Perfetto"),
    "list": ("catalogue", "schedulers, workloads, arrivals, clusters, timings, trace formats"),
    "traces": ("traces", "describe PATH: what a request trace holds"),
    "timing": ("timing", "fit | validate | passes | steps | sensitivity: how long passes take"),
}
_OK, _FAILED, _BAD_INPUT, _INTERRUPTED, _PIPE_CLOSED = 0, 1, 2, 130, 141
_HELP = ("--help", "-h", "help")
_GUIDE = """
Words are key=value in Hydra's grammar; `sbs-gym list` names the presets.

  sbs-gym simulate scheduler=sbs load=0.8
  sbs-gym simulate cluster.num_prefill=4 timing=linear timing.fixed_s=0.05
  sbs-gym compare 'schedulers=[round_robin,sbs]' load=0.7 seeds=8 output_dir=outputs/a
  sbs-gym simulate workload=trace workload.path=trace.jsonl
  sbs-gym simulate plugins=my_module scheduler=mine     # a class of your own: docs/own_scheduler.md

`sbs-gym <command> --help` explains each. Mistakes exit with 2, an interrupted run with 130."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; mistakes are one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words)
    except SimulationError as problem:
        return _complain(f"this is a bug in sbs_gym, please report it: {problem}", _FAILED)
    except (SbsGymError, OSError) as problem:
        if isinstance(problem, BrokenPipeError):
            # The reader (head, less) has gone; keep the interpreter from complaining at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _PIPE_CLOSED
        return _complain(str(problem), _BAD_INPUT)
    except KeyboardInterrupt as stop:
        saved = str(stop)
        return _complain(f"interrupted{'; ' + saved if saved else ''}", _INTERRUPTED)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in _HELP:
        print(_overview())
        return _OK if words else _BAD_INPUT
    if words[0] == "--version":
        print(f"sbs-gym {__version__}")
        return _OK
    require_choice("command", words[0], COMMANDS)
    command = importlib.import_module(f"sbs_gym.commands.{COMMANDS[words[0]][0]}")
    if any(word in ("--help", "-h") for word in words[1:]):
        print(command.HELP.strip())
        return _OK
    command.run(_without_plugins(words[1:]))
    return _OK


def _without_plugins(words: list[str]) -> list[str]:
    """Import what `plugins=…` names, before any command looks at names of schedulers."""
    if not any(word.startswith("plugins=") for word in words):
        return words
    from sbs_gym.schema import without_plugins  # slow to import, and few commands need it

    return without_plugins(words)


def _overview() -> str:
    lines = [f"  {name:<12} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(["sbs-gym <command> [key=value ...]", "", *lines, _GUIDE])


def _complain(message: str, code: int) -> int:
    print("sbs-gym: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
