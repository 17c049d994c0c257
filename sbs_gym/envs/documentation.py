"""The texts of the environments: their docstrings, and the parts of docs/environments.md.

What environments share is said once, here; tables come from the tables that the code works with. A
class says only what is special about it. Texts are put together when somebody reads them.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.envs.actions import ActionCodec
from sbs_gym.envs.config import EnvConfig, RewardConfig, env_config
from sbs_gym.envs.documentation_texts import (
    EPISODE_END,
    INFO,
    INVALID_ACTIONS,
    PROCESS,
    REWARD,
    REWARD_TERMS,
    VERSIONS,
)
from sbs_gym.envs.observation import GROUP_NAMES
from sbs_gym.envs.tasks import NUM_BUDGETS, ORDERS, Task, action_layout
from sbs_gym.schedulers.questions import BUDGET_SHARES, NUM_MULTIPLIERS, RESERVED
from sbs_gym.sim.agent_state import TERMS, Question
from sbs_gym.sim.features import Feature, Group, num_features, sizes

HEADINGS = (
    "Description",
    "Action Space",
    "Observation Space",
    "Reward",
    "Episode End",
    "Info",
    "Arguments",
    "Version History",
)


class Documentation:
    """The docstring of an environment's class, put together when it is read.

    Attributes:
        special: What the class itself says.
    """

    def __init__(self, task: Task, special: str) -> None:
        self._task, self.special = task, special

    def __get__(self, instance: object, owner: type | None = None) -> str:
        """Return the text."""
        first, _, rest = self.special.partition("\n\n")
        parts = [first]
        for heading, text in sections(self._task, rest).items():
            parts += [f"## {heading}", text]
        return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def documented(environment: Any) -> Any:
    """Complete the docstring of an environment's class, a decorator."""
    special = inspect.cleandoc(environment.__doc__ or "")
    environment.__doc__ = Documentation(environment.task, special)
    return environment


def special_of(environment: type) -> str:
    """Return what a class that is `documented` says itself."""
    found: Documentation = vars(environment)["__doc__"]
    return found.special


def sections(task: Task, special: str) -> dict[str, str]:
    """Return the text under every heading; `special` is what only this task has to say."""
    config = env_config()
    texts = (
        f"{special.strip()}\n\n{PROCESS.strip()}",
        action_text(task, config),
        observation_text(task, config.cluster),
        f"{reward_table(task)}\n\n{REWARD.strip()}",
        EPISODE_END,
        f"{info_table()}\n\n{INVALID_ACTIONS.strip()}",
        arguments_table(task),
        VERSIONS,
    )
    return dict(zip(HEADINGS, (text.strip() for text in texts), strict=True))


# Actions


def action_text(task: Task, config: EnvConfig) -> str:
    """Return the forms of the action space, and what every index means."""
    layout = action_layout(task, config)
    forms = []
    for form in task.actions:
        space = ActionCodec(dataclasses.replace(layout, form=form), 1).space
        how = f'`action="{form}"`' if form != task.actions[0] else "The default"
        forms.append(f"- {how}: `{space}`. {_FORMS[form]}".rstrip())
    rows = list(_action_rows(task, config))
    return "\n".join(forms) + "\n\n" + table(("index", "asked", "answer"), rows)


_FORMS = {
    "discrete": "",
    "box": "The multiplier is 1 + a; a is clipped to [-1, 1].",
    "multi": "Multiplier and budget.",
    "flat": f"Index = {NUM_BUDGETS} x multiplier + budget.",
}


def _action_rows(task: Task, config: EnvConfig) -> Iterable[tuple[str, str, str]]:
    """Return index, when it is asked for, and what it means, of every segment."""
    layout, window = action_layout(task, config), "the buffer is not empty and no window stands"
    quarter = "multiplier of the interval, a quarter of m"
    shares = ", ".join(map(str, BUDGET_SHARES))
    budget = f"budget per rank: {shares} x backlog per rank at the release, or the full chunk"
    if task.answers & Question.RELEASE:
        if task.num_orders > 1:
            index = f"(m x {NUM_BUDGETS} + b) x {len(ORDERS)} + o"
            yield f"0 to {layout.num_windows - 1}, {index}", window, f"m, 0 to 8: {quarter}"
            yield "", "", f"b, 0 to {NUM_BUDGETS - 1}: {budget}"
            yield "", "", f"o, 0 to {len(ORDERS) - 1}: order {', '.join(ORDERS)}"
        elif task.num_budgets > 1:
            yield f"[0]: m, 0 to {NUM_MULTIPLIERS - 1}", window, quarter
            yield f"[1]: b, 0 to {NUM_BUDGETS - 1}", "with it", budget
        else:
            yield f"m, 0 to {NUM_MULTIPLIERS - 1}", window, quarter
        more = "; what stands behind moves up" if layout.num_actions > layout.num_windows else ""
        free = f"instances kept free of long prompts: {', '.join(map(str, RESERVED))}{more}"
        yield f"index x {len(RESERVED)} + r with `reserves=True`", "with it", free
    start, end = layout.num_windows, layout.decode_offset
    if task.answers & Question.PREFILL:
        when = "per request of a release, in its order, while a rank has room"
        yield f"{start} + d, {start} to {end - 2}", when, "DP rank d of the instance"
        yield f"{end - 1}", "with it", "leave the request in the buffer"
    if task.answers & Question.DECODE:
        when = "per prompt that is done and waits for a decode rank"
        yield f"{end} + k, {end} to {layout.num_actions - 1}", when, "decode rank k"


# Observations


def observation_text(task: Task, cluster: ClusterConfig) -> str:
    """Return the observation of a task in a cluster, one table per group."""
    count = num_features(task.sees, cluster)
    ranks = f"{cluster.num_prefill} prefill instances of {cluster.prefill_dp} ranks"
    parts = [
        f"`Box({count},)`, float32: the groups below behind each other, row by row. Every number "
        "is clipped to its bounds. Indices are those of the default cluster, "
        f"{ranks}, {cluster.num_decode_ranks} decode ranks.\n\n"
        '`observation="dict"` gives an array per group instead. `history=k` stacks what was seen '
        "at the last k questions, the newest last; in a dict, within every row. A reset fills the "
        "history with the first observation."
    ]
    header, start = ("index", "name", "unit", "low", "high", "meaning"), 0
    for group, (rows, columns) in sizes(cluster).items():
        if not group & task.sees:
            continue
        step = f" + {len(columns)} {_ROW_LETTERS[group]}" if rows > 1 else ""
        lines = [(f"{start + n}{step}", *_cells(feature)) for n, feature in enumerate(columns)]
        title = _GROUPS[group].format(count=len(columns), rows=rows)
        parts += [f"`{GROUP_NAMES[group]}`, {title}:", table(header, lines)]
        start += rows * len(columns)
    return "\n\n".join(parts)


def _cells(f: Feature) -> tuple[str, ...]:
    return f"`{f.name}`", f.unit or "-", f"{f.low:g}", f"{f.high:g}", f.meaning


_ROW_LETTERS = {Group.INSTANCES: "i", Group.RANKS: "d", Group.DECODE_RANKS: "k"}
_GROUPS = {
    Group.GLOBAL: "shape ({count},)",
    Group.INSTANCES: "shape ({rows}, {count}), a row per prefill instance i",
    Group.RANKS: "shape ({rows}, {count}), a row per DP rank d of the instance in question; zero "
    "for other questions",
    Group.DECODE_RANKS: "shape ({rows}, {count}), a row per decode rank k",
    Group.REQUEST: "shape ({count},), the request in question; zero for a window",
}


# Reward, info, arguments


def reward_table(task: Task | None) -> str:
    """Return every term of the reward, with a task's weights unless `task` is None."""
    weights = dict(task.weights) if task else {}
    rows = []
    for name in TERMS:
        unit, text = REWARD_TERMS[name]
        weight = (f"{weights.get(name, 0.0):g}",) if task else ()
        rows.append((f"`{name}`", *weight, unit, text))
    middle = ("weight",) if task else ()
    return table(("term", *middle, "unit", "value over a step"), rows)


def info_table() -> str:
    """Return every key of `info`."""
    return table(("key", "content"), [(f"`{name}`", text) for name, text in INFO.items()])


def arguments_table(task: Task | None) -> str:
    """Return every argument of `gym.make` with its default; None: of any task."""
    rows = [*_arguments(EnvConfig, env_config(), task), *_SHELL_ARGUMENTS]
    rows += [
        (f"`reward[{name.strip('`')!r}]`", default, text)
        for name, default, text in _arguments(RewardConfig, RewardConfig(), task)
    ]
    return table(("argument", "default", "meaning"), rows)


_SHELL_ARGUMENTS = [
    ("`render_mode`", "None", "single environments: ansi or rgb_array"),
    ("`num_threads`", "1", "vectors: threads that share the work; results do not depend on it"),
    ("`time_in_infos`", "False", "`SB3SchedulingEnv`: `elapsed_s` and `discount` in its `infos`"),
    ("`autoreset_mode`", "NextStep", "Gymnasium vectors: or SameStep, Disabled"),
]
_AS_ARGUMENT = {"workloads": "workload", "timings": "timing"}


def _arguments(described: type, defaults: Any, task: Task | None) -> Iterable[tuple[str, str, str]]:
    """Return name, default and meaning of the attributes that a docstring describes."""
    text = inspect.getdoc(described) or ""
    attributes = text.partition("Attributes:\n")[2].partition("\n\n")[0]
    for entry in re.findall(r"^ {4}(\S.*(?:\n {8}.*)*)", attributes, flags=re.MULTILINE):
        names, _, meaning = " ".join(entry.split()).partition(": ")
        for name in names.split(", "):
            default = _default(name, getattr(defaults, name), task)
            yield f"`{_AS_ARGUMENT.get(name, name)}`", default, meaning


def _default(name: str, value: Any, task: Task | None) -> str:
    """Return a default as one writes it in a call."""
    if name == "action":
        return task.actions[0] if task else "the task's first"
    if name == "weights":
        return ", ".join(f"{term} {weight:g}" for term, weight in task.weights) if task else "task"
    if name == "reward":
        return "see below"
    if name == "slo":
        return ", ".join(f"{f.name} {getattr(value, f.name):g}" for f in dataclasses.fields(value))
    if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
        return f"{value[0]:g}"
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    named = getattr(value, "name", None) or getattr(value, "KIND", None)
    return str(named or value)


# Markdown


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown, its columns below each other as far as they are narrow."""
    lines = [[str(cell).replace("|", "\\|") for cell in row] for row in [header, *rows]]
    lines.insert(1, ["---"] * len(header))
    widths = [min(max(map(len, column)), _WIDEST) for column in zip(*lines, strict=True)]
    widths[-1] = 0
    return "\n".join(
        "| " + " | ".join(cell.ljust(n) for cell, n in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


_WIDEST = 24
