"""What an ablation changes, and the panel in which the change is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sbs_gym.reproduce.panels import Panel


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a setting or of a scheduler.

    Attributes:
        ablation: The family.
        name: What is changed, and to what.
        scheduler: The changed scheduler; null: the subject in a changed setting.
        of: The scheduler that it changes; null: the subject.
        words: Words of the changed setting.
        base: The setting that is changed.
    """

    ablation: str
    name: str
    base: str
    scheduler: str | None = None
    of: str | None = None
    words: Mapping[str, Any] = field(default_factory=dict)


def changed_panel(base: Panel, name: str, one: Change, schedulers: Sequence[str]) -> Panel:
    """Return the panel of a changed setting; a rate among its words takes the place of loads."""
    words = {**base.words, **one.words}
    loads = () if "rate_per_s" in words else base.loads
    title = f"{one.ablation} {one.name}"
    return dataclasses.replace(
        base, name=name, title=title, words=words, schedulers=schedulers, loads=loads
    )
