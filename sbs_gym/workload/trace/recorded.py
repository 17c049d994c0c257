"""What a trace file records itself, and so what every seed shares; read no further than needed."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.workload.trace.recognise import format_of
from sbs_gym.workload.trace.report import BadRow, Intake
from sbs_gym.workload.trace.rows import RawColumns
from sbs_gym.workload.trace.source import read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Which columns a trace has.

    Attributes:
        arrivals: The file has arrival times on one clock, or sessions start at a given rate.
        outputs: The file has answer lengths.
    """

    arrivals: bool
    outputs: bool


def recorded(config: WorkloadConfig) -> Recorded:
    """Return what the file of a trace records; rows that cannot be used do not count.

    Raises:
        TraceError: If the file cannot be read.
    """
    path = Path(config.path or "").expanduser()
    intake = Intake(path, "drop")
    records = read_records(path, intake)
    first = next(records, None)
    if first is None:
        return Recorded(arrivals=False, outputs=False)
    known = format_of(path, first[1], first[0], config)
    clock = not known.session_clock or config.session_rate_per_s is not None
    raw = RawColumns(known, keep_blocks=False)
    arrivals = outputs = False
    every = itertools.chain([first], records)
    for line, record in known.flatten(every, intake) if known.flatten else every:
        try:
            raw.add(line, record)
        except BadRow:
            continue
        arrivals = arrivals or not math.isnan(raw.arrived_at[-1])
        outputs = outputs or raw.output_tokens[-1] >= 0
        if arrivals and outputs:
            break
    return Recorded(arrivals=arrivals and clock, outputs=outputs)
