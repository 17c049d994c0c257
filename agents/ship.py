"""Put a trained agent into the package: `python -m agents.ship runs=[DIR,…]`.

Of several trainings of one experiment the median one ships, by the validation that also chose its
weights: neither the best nor one chosen on test seeds. Beside the weights go a model card and the
learning curves of all trainings.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from agents.curve_table import curves_writer
from agents.export import write_weights
from agents.files import BEST, RESULT, TABLES
from agents.statistics import median_place
from sbs_gym.artifacts import (
    CONFIG_FILE,
    file_digest,
    read_json,
    read_yaml,
    require_files,
    text_writer,
    write_all,
)
from sbs_gym.config.learned import read_weights_file
from sbs_gym.errors import ConfigError, SbsGymError
from sbs_gym.report.curves_plot import SUFFIX
from sbs_gym.schedulers import learned

_HELP = """python -m agents.ship runs=[DIR,DIR,…] [name=NAME] [evaluations=[DIR,…]]

Copies the policy of the median training into the package, with a model card and the learning
curves of all trainings beside it.

  runs        directories of finished trainings of one experiment, at least one per seed
  name        of the agent; default: the experiment's
  evaluations directories of `python -m agents.evaluate`, whose tables go into the card
  output_dir  where to; default: sbs_gym/schedulers/learned
"""
_LOSS = "best_loss"


def ship(
    runs: Sequence[Path],
    name: str | None,
    evaluations: Sequence[Path] = (),
    output_dir: Path | None = None,
) -> Path:
    """Return the weights file that was written, with its card and curves beside it.

    Raises:
        ConfigError: If the runs are not finished, or not of one experiment, or an evaluation
            played the weights of none of them.
    """
    results = [_finished(run) for run in runs]
    for evaluation in evaluations:
        _require_played(evaluation, runs)
    configs = [read_yaml(run / CONFIG_FILE) for run in runs]
    names = sorted({config["name"] for config in configs})
    if len(names) != 1:
        raise ConfigError(f"runs are of several experiments: {', '.join(names)}; expected one")
    chosen = median_of([result.get(_LOSS) for result in results])
    target = Path(output_dir or Path(learned.__file__).parent)
    agent = name or names[0]
    found = read_weights_file(str(runs[chosen] / BEST))
    meta = {
        **found.meta,
        "about": _about(agent, configs[chosen], len(runs)),
        "training": _anywhere(found.meta["training"]),
    }
    write_weights(target / f"{agent}.npz", meta, found.arrays)
    card = _card(agent, configs, results, chosen, runs, evaluations)
    curves = {f"{agent}{SUFFIX}": curves_writer(runs)}
    write_all(target, {f"{agent}.md": text_writer(card), **curves})
    return target / f"{agent}.npz"


def median_of(losses: Sequence[float | None]) -> int:
    """Return the place of the median, of two the worse one; the first if nothing was validated."""
    if any(loss is None for loss in losses):
        return 0
    return median_place([float(loss) for loss in losses if loss is not None])


def _about(agent: str, config: Mapping[str, Any], trainings: int) -> str:
    """Return one line: where it acts, the timing it knows, and which of its trainings it is."""
    given = config["env"].get("timing", "roofline")
    timings = given if isinstance(given, list) else [given]
    names = {one if isinstance(one, str) else one.get("preset", "its own") for one in timings}
    where = f"{config['env']['id']}, trained with timing={'|'.join(sorted(names))} only"
    return f"{agent}: {where}; median of {trainings} trainings"


def _anywhere(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration without the folder of the machine that it ran on."""
    return {**config, "output_dir": f"outputs/train/{config['name']}/seed{config['seed']}"}


def _finished(run: Path) -> dict[str, Any]:
    require_files(run, (RESULT, BEST, CONFIG_FILE))
    return dict(read_json(run / RESULT))


def _require_played(evaluation: Path, runs: Sequence[Path]) -> None:
    """Raise ConfigError unless an evaluation played the weights of one of the runs, as they are."""
    ours = {file_digest(run / BEST) for run in runs}
    told = [read_json(file) for name in TABLES if (file := evaluation / name).is_file()]
    played = {
        digest
        for one in told
        for policy in one["policies"].values()
        for digest in policy["weights"].values()
    }
    if not ours & played:
        raise ConfigError(
            f"evaluations: {evaluation} played none of the runs (or their weights have changed "
            f"since); expected an evaluation of one of: {', '.join(map(str, runs))}"
        )


def _card(
    agent: str,
    configs: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    chosen: int,
    runs: Sequence[Path],
    evaluations: Sequence[Path],
) -> str:
    config, made_with = configs[chosen], results[chosen]["versions"]
    told = [f"{k} {v}" for k, v in made_with.items() if k not in ("code", "revision")]
    revision = made_with.get("revision", "unknown")
    lines = [
        f"# {agent}",
        "",
        f"Acts in `gym.make('{config['env']['id']}', **agents.load('{agent}').options)`; plays as",
        f"`scheduler=learned:{agent}`.",
        f"Trained by `python -m agents.train experiment={config['name']} seed={config['seed']}`,",
        f"the median by validation of {len(configs)} trainings; git revision {revision}.",
        "",
        "| seed | best after | mean TTFT / sbs | / better rule | worst cell / better rule |",
        "|---|---|---|---|---|",
        *(_row(one, result) for one, result in zip(configs, results, strict=True)),
        "",
        f"Validation: train part of suite {config['validation']['suite']}, validation seeds. "
        f"Versions: {', '.join(told)}.",
    ]
    if evaluations and len(runs) > 1:
        lines += [
            "",
            f"Where all {len(runs)} trainings were evaluated they stand as one policy; a median",
            "that is named there is the median of those numbers, which chose nothing.",
        ]
    for evaluation in evaluations:
        lines += ["", _tables(evaluation, runs, configs)]
    saved = yaml.safe_dump(_anywhere(config), sort_keys=False).strip()
    return "\n".join([*lines, "", "## Configuration", "", "```yaml", saved, "```", ""])


def _tables(evaluation: Path, runs: Sequence[Path], configs: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of an evaluation, with runs named as on any machine."""
    text = (require_files(evaluation, ("suite.md",)) / "suite.md").read_text(encoding="utf-8")
    for run, config in zip(runs, configs, strict=True):
        text = text.replace(str(run.resolve()), _anywhere(config)["output_dir"])
    return text.strip()


def _row(config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    ratios = [result.get(f"validation/{name}") for name in ("ratio", "rival", "rival_worst")]
    told = " | ".join("" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
    return f"| {config['seed']} | {result.get('best_steps', '')} | {told} |"


def main(words: Sequence[str] | None = None) -> int:
    """Ship what the command line names."""
    given = list(sys.argv[1:] if words is None else words)
    if not given or "--help" in given or "-h" in given:
        print(_HELP)
        return 0
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(given))
        known = {"runs", "name", "evaluations", "output_dir"}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"{unknown[0]!r} is not known. Known: {', '.join(sorted(known))}")
        runs = [Path(run) for run in values.get("runs") or []]
        if not runs:
            raise ConfigError("runs is missing; expected runs=[DIR,DIR,…]")
        evaluations = [Path(one) for one in values.get("evaluations") or []]
        output_dir = Path(values["output_dir"]) if values.get("output_dir") else None
        print(ship(runs, values.get("name"), evaluations, output_dir))
    except SbsGymError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
