"""Which studies there are, in the order in which they are run and told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sbs_gym.config.groups import section_from_mapping
from sbs_gym.errors import ConfigError
from sbs_gym.reproduce.panels import panels_of
from sbs_gym.reproduce.studies.ablations import ablations_of
from sbs_gym.reproduce.studies.kv_spread import KvSpread
from sbs_gym.reproduce.studies.pictures import pictures_of
from sbs_gym.reproduce.studies.queueing import Queueing
from sbs_gym.reproduce.studies.suite_map import suite_map_of
from sbs_gym.reproduce.studies.throughput import Throughput
from sbs_gym.reproduce.studies.ttft_qps import TtftQps
from sbs_gym.reproduce.studies.utilisation import Utilisation
from sbs_gym.reproduce.study import Study

Section = Mapping[str, Any]
TRACES = "traces"  # made from the files that are given, not from the preset alone
_PANEL_KEYS = ("panels", "words", "schedulers", "seeds", "loads", "first_seed", "title")


def _from_panels(kind: type[Any]) -> Callable[[Section], Study]:
    """Return how a study is made whose section holds panels and fields of its own."""

    def made(section: Section) -> Study:
        if not section.get("panels"):
            raise ConfigError(f"{kind.__name__}: panels is empty; expected at least one")
        panels = {key: value for key, value in section.items() if key in _PANEL_KEYS}
        own = {key: value for key, value in section.items() if key not in _PANEL_KEYS}
        study: Study = section_from_mapping(
            kind, kind.__name__, {**own, "panels": panels_of(panels)}
        )
        return study

    return made


def _throughput(section: Section) -> Study:
    given = dict(section)
    placements = panels_of({"panels": given.pop("placements", {}), **given.pop("placed", {})})
    return _from_panels(Throughput)({**given, "placements": placements})


STUDIES: Mapping[str, Callable[[Section], Study]] = {
    "pictures": pictures_of,
    "ttft_qps": _from_panels(TtftQps),
    "throughput": _throughput,
    "utilisation": _from_panels(Utilisation),
    "kv_spread": _from_panels(KvSpread),
    "queueing": _from_panels(Queueing),
    "ablations": ablations_of,
    "suite_map": suite_map_of,
}
