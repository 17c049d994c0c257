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
from sbs_gym.envs.observation import GROUP_NAMES
from sbs_gym.envs.tasks import BUDGET_SHARES, NUM_BUDGETS, ORDERS, Task, action_layout
from sbs_gym.schedulers.questions import NUM_MULTIPLIERS
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

PROCESS = """
A partially observed semi-Markov decision process. The agent sees what a scheduler can know, never
the length of an answer, the true state of an engine, or what will arrive. Between two questions
passes any time, often none at all: placements of one release are steps of zero seconds. What
arrives, and the luck of the engines, does not depend on the answers. The task continues: an episode
is a window cut out of it.

Because steps last unequally long, a constant discount per step would value the same second
differently from step to step. Time is discounted instead, `exp(-t / tau_s)`, inside a step as well
as between steps; `info["discount"]`, `exp(-elapsed_s / tau_s)`, takes the place of gamma.
"""

# Of every term: its unit and its value over one step; `open` requests wait for their first token.
_REWARD_TERMS = {
    "ttft": (
        "s",
        "minus the integral over time of the requests that have arrived and have no first token; "
        "over an episode minus the sum of TTFTs, each from the end of the warm-up at the earliest, "
        "and to the horizon if there is no first token",
    ),
    "tpot": (
        "s",
        "minus the integral of the requests between their first and their last token, plus "
        "`tpot_target_s` per token after the first of every request that finishes",
    ),
    "slo_miss": (
        "requests",
        "-1 per request that misses its SLO, when that is certain: at its first token, its last "
        "token or its rejection",
    ),
    "rejection": (
        "s",
        "minus `max(horizon left, 4 x TTFT allowed)` per request that the scheduler rejects",
    ),
    "prefill_bubble": ("rank-seconds", "minus what ranks lose at the barriers of prefill passes"),
    "decode_bubble": ("rank-seconds", "minus what ranks lose at the barriers of decode steps"),
    "input_tokens": ("tokens", "prompt tokens of the prefill passes that end"),
    "output_tokens": ("tokens", "tokens of the decode steps that end"),
}

REWARD = """
The sum of `reward.weights` x term, each discounted from the decision on. With `b = 1 / tau_s`, an
instant `u` seconds after the decision counts `exp(-b u)`; while a number `n` of requests stays the
same from `u0` to `u1`, that is `-n (exp(-b u0) - exp(-b u1)) / b`. A learner adds
`info["discount"]` x the value of what follows. `tau_s=None` discounts nothing: then a reward is the
weighted sum of its terms.

What is lost between the end of the warm-up and the first question is part of the first step,
undiscounted.

`tpot` is dense and signed. Its positive part above an SLO of 50 ms would be zero nearly always, and
come with a request's last token, seconds behind the choice that caused it.

`reward={"baseline": "sbs"}` subtracts what that preset has on the same arrivals and luck up to the
same horizon, from every term and from the reward. It takes out luck that no answer changes, so the
best policy stays the best one. The preset's run goes on as a compiled shadow beside the agent's.
"""

EPISODE_END = """
Truncated exactly `horizon_s` seconds behind the warm-up. Nothing ends there: a learner adds the
discounted value of the last observation, as it would within the episode. Terminated only when a
trace ends and all its requests are done, in the shadow's run too. At the end every action is legal,
and none has an effect.

`reset()` draws an episode, lets the background `scheduler` play its warm-up, and goes on to the
first question; an episode without a question is drawn again. If requests wait at the end of the
warm-up, the agent is asked at once. `reset(options={"load": 0.8, "offset_s": 600})` sets the load,
and where in a trace the episode begins.
"""

_INFO = {
    "elapsed_s": "simulated seconds since the question that the step answered",
    "discount": "weight of the value of what follows, `exp(-elapsed_s / tau_s)`",
    "reward_terms": "every term of the table above by name, undiscounted, unweighted",
    "num_invalid_actions": "illegal actions of the episode so far",
    "action_mask": "the legal actions, bool; not for `action='box'`",
    "privileged": "with a baseline, for a critic alone: the shadow's requests without first token, "
    "its tokens sent and not done, its busy instances; the policy must not see it",
}

INVALID_ACTIONS = """
Under `invalid_action="remap"` an illegal index becomes the k-th legal action, k = index modulo the
number of legal actions, and is counted: learners without masks, and checkers, can play. Under
`"error"` it is refused and nothing changes. `action_masks()` gives sb3-contrib the mask.
"""

SEEDS = """
Environment i of a vector with `reset(seed=s)` has the seed `s + i`. Everything that episode k of it
draws (workload, load, arrivals, lengths, warm-up, luck) is addressed by one hash of seed and k:
episodes are the same bytes alone or in a batch, in any shell, autoreset mode and number of threads.
A reset without a seed goes on to the next episode. By convention seeds 0 to 9999 are for training,
10000 to 10099 for choosing among checkpoints, those from 20000 on for tests.
"""

SHELLS = """
| shell | made by | at the end of an episode |
| --- | --- | --- |
| single | `gym.make(id, …)` | `step` is refused until `reset` |
| vector, `NEXT_STEP` | `gym.make_vec(id, num_envs, …)` | the next step resets it: its action is ignored, reward and elapsed time are 0 |
| vector, `SAME_STEP` | `autoreset_mode="SameStep"` | reset at once; `infos["final_obs"]` and `infos["final_info"]` hold the end |
| vector, `DISABLED` | `autoreset_mode="Disabled"` | `reset(options={"reset_mask": …})` resets some |
| Stable-Baselines3 | `SB3SchedulingEnv(id, num_envs, …)` | reset at once; `terminal_observation` and `TimeLimit.truncated` in its `infos` |

`infos` of a vector is one dictionary of arrays. All shells run the same compiled batch, and
`num_threads=2` shares it among two threads.
"""  # noqa: E501

VERSIONS = "- v0: first version."


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
    "box": "The multiplier is 1 + a.",
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
        unit, text = _REWARD_TERMS[name]
        weight = (f"{weights.get(name, 0.0):g}",) if task else ()
        rows.append((f"`{name}`", *weight, unit, text))
    middle = ("weight",) if task else ()
    return table(("term", *middle, "unit", "value over a step"), rows)


def info_table() -> str:
    """Return every key of `info`."""
    return table(("key", "content"), [(f"`{name}`", text) for name, text in _INFO.items()])


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
