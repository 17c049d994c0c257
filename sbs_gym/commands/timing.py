"""`sbs-gym timing`: fit passes and steps to published figures, compare, show, change them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sbs_gym.artifacts import write_all
from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.commands import timing_sensitivity
from sbs_gym.commands.timing_figure import write_validation_figure
from sbs_gym.commands.words import existing_file, refuse_other, split_words
from sbs_gym.errors import ConfigError, require_choice
from sbs_gym.report import tables
from sbs_gym.report.style import ABSENT, milliseconds, number, percent
from sbs_gym.schema import load_settings
from sbs_gym.timing.fit import fit_timing
from sbs_gym.timing.memory import kv_room
from sbs_gym.timing.model import TimingModel
from sbs_gym.timing.provenance import fit_to_yaml
from sbs_gym.timing.validate import validate
from sbs_gym.types import IntArray

_SHARES_OF_CHUNK = (1 / 12, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 1.0)
_BATCHES = (1, 8, 16, 32, 64, 128, 256)
_CONTEXTS = (1024, 4096, 16384, 65536)
HELP = f"""
sbs-gym timing fit kernels=CSV systems=CSV [output=YAML]
sbs-gym timing validate [path=CSV] [output=JSON] [figure=PNG] [rows=rest] [timing.key=value]
sbs-gym timing passes [timing=roofline] [cluster=h800_3p1d] [timing.key=value ...]
sbs-gym timing steps [timing=roofline] [cluster=h800_3p1d] [timing.key=value ...]
sbs-gym timing sensitivity [timing=roofline] [frac=0.2] [jobs=1] [key=value ...]

fit       Fit the roofline to measured kernels and deployments (columns: source, url, gpu, phase,
          ep, dp, tokens_per_rank, batch_per_rank, context_len, metric, value, unit, status, note).
          Prints errors in and out of sample; `output` takes the parameters as a YAML for conf/.
validate  Compare a timing with published figures, or with those of `path` (same columns); rows
          that the model was fitted to are told apart. `output` takes all rows as JSON, `figure`
          a plot of predicted against measured; `rows=rest` prints the rows without a prediction.
passes    Print how long passes of fresh prompts take: the same tokens on every rank, and the same
          mean with a full chunk on one rank. "to full": how far that one rank takes the pass
          towards one with a full chunk everywhere; where it is small, a barrier costs little.
steps     Print how long decode steps take: the same requests on every rank, each with the same
          context; - where the context does not fit into the KV room of a rank.
sensitivity
          Change every number of a timing by a fraction, one at a time, and print whether the
          rankings of schedulers (TTFT) and of placement rules (TPOT) survive; see below.

  sbs-gym timing validate
  sbs-gym timing validate timing=linear timing.fixed_s=0.05 output=points.json
  sbs-gym timing fit kernels=kernels.csv systems=systems.csv output=mine.yaml

{timing_sensitivity.HELP.strip()}
"""


def run(words: Sequence[str]) -> None:
    """Fit, validate or show passes or steps, as the first word says."""
    if not words:
        raise ConfigError(
            "timing: expected `fit`, `validate`, `passes`, `steps` or `sensitivity`; see "
            "sbs-gym timing --help"
        )
    commands = {
        "fit": _fit,
        "validate": _validate,
        "passes": _passes,
        "steps": _steps,
        "sensitivity": timing_sensitivity.run,
    }
    require_choice("timing: command", words[0], commands)
    commands[words[0]](words[1:])


def _fit(words: Sequence[str]) -> None:
    known = ("kernels", "systems", "output")
    own, rest = split_words(words, known)
    refuse_other(rest, known, "sbs-gym timing fit")
    for key in ("kernels", "systems"):
        if key not in own:
            raise ConfigError(f"timing fit: {key}=CSV is missing")
    report = fit_timing(existing_file(own["kernels"]), existing_file(own["systems"]))
    print(report.summary())
    if "output" in own:
        print(f"written to {_write(own['output'], fit_to_yaml(report))}")


def _validate(words: Sequence[str]) -> None:
    known = ("path", "output", "figure", "rows")
    own, rest = split_words(words, known)
    for word in rest:
        if word.lstrip("+").partition("=")[0].partition(".")[0] != "timing":
            raise ConfigError(
                f"{word!r}: expected path=CSV, output=JSON, figure=PNG, or words timing.key=value"
            )
    timing = load_settings(rest, also=known).run.timing
    require_choice("rows", own.get("rows", "predicted"), ("predicted", "rest"))
    report = validate(timing, existing_file(own["path"]) if "path" in own else None)
    print(report.rest() if own.get("rows") == "rest" else report.summary())
    if "output" in own:
        print(f"written to {_write(own['output'], report.to_json())}")
    if "figure" in own:
        path = _file(own["figure"])
        write_all(path.parent, {path.name: lambda part: write_validation_figure(report, part)})
        print(f"written to {path}")


def _passes(words: Sequence[str]) -> None:
    config = load_settings(words).run
    cluster, chunk = config.cluster, config.cluster.chunk_tokens
    model = timing_for(cluster, config.timing)
    dp = cluster.prefill_dp
    full_s = _pass_s(model, np.full(dp, chunk))
    rows = []
    for share in _SHARES_OF_CHUNK:
        mean = int(share * chunk)
        alike_s = _pass_s(model, np.full(dp, mean))
        row = [f"{mean:,}", milliseconds(alike_s), number(alike_s / mean * 1e6)]
        rest = dp * mean - chunk
        if mean == chunk or dp == 1 or rest < 0:
            rows.append((*row, ABSENT, ABSENT))
            continue
        skewed = np.full(dp, rest // (dp - 1))
        skewed[0] = chunk
        one_full_s = _pass_s(model, skewed)
        to_full = (one_full_s - alike_s) / (full_s - alike_s)
        rows.append((*row, milliseconds(one_full_s), percent(to_full, 0)))
    columns = ("tokens per rank", "ms", "µs per token", "one rank full, ms", "to full %")
    title = f"passes of {dp} ranks, chunk {chunk}, timing {config.timing.kind}, mean luck"
    tables.show(tables.number_table(title, columns, rows))


def _steps(words: Sequence[str]) -> None:
    config = load_settings(words).run
    cluster = config.cluster
    model = decode_timing_for(cluster, config.timing)
    room = kv_room(cluster, "decode").kv_tokens
    rows = []
    for batch in (b for b in _BATCHES if b <= model.max_requests):
        requests = np.full(model.dp, batch)
        cells = [
            milliseconds(model.step_s(requests, requests * float(context)))
            if batch * context <= room
            else ABSENT
            for context in _CONTEXTS
        ]
        rows.append((f"{batch:,}", *cells))
    columns = ("requests per rank", *(f"{c // 1024}K, ms" for c in _CONTEXTS))
    title = f"steps of {model.dp} ranks, tokens per request: {model.q_tokens}, {config.timing.kind}"
    tables.show(tables.number_table(title, columns, rows))


def _pass_s(model: TimingModel, tokens: IntArray) -> float:
    return model.prefill_pass_s(tokens, np.zeros_like(tokens))


def _write(output: str, text: str) -> Path:
    path = _file(output)
    write_all(path.parent, {path.name: lambda part: _write_text(part, text)})
    return path


def _file(output: str) -> Path:
    path = Path(output.strip("'\"")).expanduser()
    if path.is_dir():
        raise ConfigError(f"{output!r} is a directory; expected a file")
    return path


def _write_text(path: Path, text: str) -> None:
    path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
