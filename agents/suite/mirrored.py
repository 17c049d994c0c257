"""The mirror of an evaluation: a run per policy, rules as baselines, agents with their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from agents.config import WandbConfig
from agents.files import TABLES
from agents.mirror import Mirror
from agents.suite.policies import Policy
from agents.suite.request import Request


def mirror_evaluation(settings: WandbConfig, request: Request, suite: Mapping[str, Any]) -> None:
    """Mirror what a suite found, one run per policy that was asked for.

    Args:
        settings: Mode, project, entity.
        request: What was asked.
        suite: The content of suite.json.
    """
    if settings.mode == "disabled":
        return
    results = [request.output_dir / name for name in TABLES]
    present = [path for path in results if path.is_file()]
    for policy in request.policies:
        with Mirror(
            settings,
            directory=request.output_dir,
            group=f"suite-{request.suite.name}",
            job_type="eval" if policy.weights else "baseline",
            name=f"{request.suite.name}-{request.suite.part}-{policy.name}",
            tags=[request.suite.name, request.suite.part, policy.name, request.split],
            config=request.config() | {"policy": list(policy.words)},
        ) as mirror:
            headline = _headline(suite, policy.name)
            mirror.summarise(headline)
            mirror.table("cells", cells_of(suite, policy.name))
            if policy.weights:
                mirror.artifact(policy.name, _distinct(policy, present), headline)


def cells_of(suite: Mapping[str, Any], policy: str) -> pd.DataFrame:
    """Return one row per cell that a policy played: where, and what it reached."""
    rows = []
    for cell in suite["cells"]:
        if policy in cell["policies"]:
            where = {k: cell[k] for k in ("part", "path", "workload", "load", "arrivals")}
            told = cell["policies"][policy].items()
            rows.append({**where, **{k: v for k, v in told if not isinstance(v, (dict, list))}})
    return pd.DataFrame(rows)


def _headline(suite: Mapping[str, Any], policy: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, by_policy in suite["headline"].items():
        for name, value in by_policy.get(policy, {}).items():
            if not isinstance(value, (dict, list)):
                found[f"{path}/{name}"] = value
    return found


def _distinct(policy: Policy, results: Sequence[Path]) -> list[Path]:
    """Return weights and results; of several trainings, whose files share a name, the first's."""
    return [*policy.weights[:1], *results]
