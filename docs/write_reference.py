"""Write docs/columns.md, catalogue.md and environments.md: `python docs/write_reference.py`.

They say what the package itself says of its columns, presets and environments. `--check` writes
nothing and fails if a page is not up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from sbs_gym.commands.catalogue import KINDS, listings
from sbs_gym.envs import documentation as texts
from sbs_gym.envs import documentation_texts as words
from sbs_gym.envs import environments
from sbs_gym.envs.registration import IDS
from sbs_gym.result import column_docs

DOCS = Path(__file__).resolve().parent
_WRITTEN = "<!-- Written by docs/write_reference.py (make docs); edit the source instead. -->"
_ABOUT_TABLES = {
    "requests": "`requests.parquet`: one row per request of the workload table.",
    "passes": "`passes.parquet`: one row per finished pass.",
    "steps": "`steps.parquet`: one row per finished decode step; empty without decode.",
    "by_length": "`by_length.parquet`: one row per bucket of prompt lengths.",
    "summary": "`summary.json`, and one row per run in `runs.parquet` of a comparison.",
}


def pages() -> dict[str, str]:
    """Return the name and text of every page."""
    return {
        "columns.md": columns_page(),
        "catalogue.md": catalogue_page(),
        "environments.md": environments_page(),
    }


def columns_page() -> str:
    """Return every column and summary key with its unit and meaning."""
    docs = column_docs()
    parts = ["# Columns and keys of the results", _WRITTEN, "Absent numbers are NaN, null in JSON."]
    for table, rows in docs.groupby("table", sort=False):
        cells = [
            (f"`{row['column']}`", row["unit"], row["description"])
            for row in rows.to_dict("records")
        ]
        header = ("column", "unit", "meaning")
        parts += [f"## {table}", _ABOUT_TABLES[str(table)], _table(header, cells)]
    return "\n\n".join(parts) + "\n"


def catalogue_page() -> str:
    """Return every preset, as `sbs-gym list` prints them."""
    parts = ["# Catalogue", _WRITTEN, "What `sbs-gym list` prints; the files are in `conf/`."]
    for kind in KINDS:
        for listing in listings(kind):
            cells = [(f"`{row[0]}`", *row[1:]) for row in listing.rows]
            parts += [f"## {_heading(listing.title)}", _table(listing.columns, cells)]
    return "\n\n".join(parts) + "\n"


def environments_page() -> str:
    """Return what the environments share, and a section for each."""
    parts = ["# Environments", _WRITTEN, _ABOUT_ENVIRONMENTS, _overview(), "## Use", _EXAMPLES]
    shared = {
        "Time": words.PROCESS,
        "Reward": f"{texts.reward_table(None)}\n\n{words.REWARD.strip()}",
        "Episode end": words.EPISODE_END,
        "Info and illegal actions": f"{texts.info_table()}\n\n{words.INVALID_ACTIONS.strip()}",
        "Seeds": words.SEEDS,
        "Shells": words.SHELLS,
        "Arguments": f"{texts.arguments_table(None)}\n\n{words.PARTS.strip()}",
    }
    for heading, text in shared.items():
        parts += [f"## {heading}", text.strip()]
    for id in IDS:
        parts += _section(id)
    return "\n\n".join(parts) + "\n"


def _overview() -> str:
    """Return one row per environment."""
    rows = []
    for id in IDS:
        task, special = _environment(id)
        asks = special.partition("\n\n")[0].rstrip(".")
        weights = ", ".join(f"{name} {weight:g}" for name, weight in task.weights)
        rows.append((f"`{id}`", asks, weights))
    return _table(("id", "task", "reward by default"), rows)


def _section(id: str) -> list[str]:
    """Return what is special about an environment, with its tables."""
    task, special = _environment(id)
    found = texts.sections(task, "")
    first, _, rest = special.partition("\n\n")
    parts = [f"## {id}", first, rest]
    for heading in ("Action Space", "Observation Space"):
        parts += [f"### {heading.capitalize()}", found[heading]]
    return parts


def _environment(id: str) -> tuple[texts.Task, str]:
    """Return the task of an environment and what its class itself says."""
    name = id.removesuffix("-v0")
    for one in vars(environments).values():
        if isinstance(one, type) and getattr(one, "task", None) and one.task.id == name:
            return one.task, texts.special_of(one)
    raise ValueError(f"no class for {id!r}")


_ABOUT_ENVIRONMENTS = """
Five tasks on one simulated cluster: requests wait in a scheduler's buffer, are released to prefill
instances, and decode on ranks that share an engine ([semantics.md](semantics.md)). An agent answers
some of the scheduler's questions; the rules of the `scheduler` argument answer the others. The same
texts are the docstrings: `from sbs_gym.envs.environments import WindowEnv; help(WindowEnv)`.
""".strip()

_EXAMPLES = """
One environment:
<!-- run -->
```python
import gymnasium as gym
import sbs_gym  # registers the environments

env = gym.make("SBS/WindowBudget-v0", workload="sbs_long", load=(0.5, 0.9), horizon_s=10.0)
observation, info = env.reset(seed=0)
value, weight, over = 0.0, 1.0, False
while not over:
    action = env.action_space.sample()
    observation, reward, terminated, truncated, info = env.step(action)
    value += weight * reward
    weight *= info["discount"]  # what follows, elapsed_s later
    over = terminated or truncated
print("discounted return", round(value, 1))
```

Many at once, for PPO reset in the step that ends them:
<!-- run -->
```python
import gymnasium as gym
import sbs_gym

envs = gym.make_vec("SBS/Window-v0", num_envs=8, autoreset_mode="SameStep", horizon_s=10.0)
observations, infos = envs.reset(seed=0)  # environment i has the seed 0 + i
for _ in range(200):
    observations, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
    ended = terminated | truncated  # there, bootstrap from infos["final_obs"]
print(observations.shape, infos["discount"].round(4))
```

Stable-Baselines3 and sb3-contrib, here with masks. SB3 discounts by a constant gamma; learners that
discount by time find `elapsed_s` and `discounts` on the `VecEnv`, or with `time_in_infos=True` in
its `infos`:
<!-- run with sb3_contrib -->
```python
from sb3_contrib import MaskablePPO

from sbs_gym.envs.sb3 import SB3SchedulingEnv

env = SB3SchedulingEnv("SBS/DecodeAllocation-v0", 8, load=0.8, reward={"baseline": "sbs"})
model = MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=128, gamma=0.999, seed=0)
model.learn(1024)
print(model.num_timesteps, "steps")
```

A rule in the place of an agent, as a baseline or to imitate. A rule whose answers the action space
does not contain is refused, with what is missing:
<!-- run -->
```python
import gymnasium as gym
import sbs_gym
from sbs_gym.envs.play import play

env = gym.make("SBS/WindowBudget-v0", load=0.8, horizon_s=20.0, warmup_s=10.0)
for rule in ("sbs", "sbs:multiplier=0"):
    played = play(env, rule, episodes=2, seed=0)
    print(rule, played.actions.shape, played.returns.round(0))
```

What would have come of other answers: the environment is played on from where it stands, once for
each, with the same arrivals, lengths and luck, and put back. A trained agent answers what is asked
later. `agent.algorithm=lookahead` learns from such differences ([training.md](training.md)):
<!-- run -->
```python
import gymnasium as gym
import sbs_gym
from sbs_gym.envs.lookahead import Lookahead

env = gym.make("SBS/Window-v0", load=0.8, horizon_s=60.0)
env.reset(seed=0)
lookahead = Lookahead(env.unwrapped.core, "learned:window_ppo")
paid = lookahead.returns(0, range(9), horizon_s=20.0, held=5)  # windows of 0, 0.25 … 2 intervals
print((paid - paid.mean()).round(2))
```
""".strip()


def _heading(title: str) -> str:
    """Return the title with what stands in its brackets as code."""
    name, _, words = title.partition(" (")
    return f"{name[0].upper()}{name[1:]}: `{words.removesuffix(')')}`"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [_row(columns), _row(["---"] * len(columns)), *(_row(row) for row in rows)]
    return "\n".join(lines)


def _row(cells: Sequence[object]) -> str:
    return (
        "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"
    )


def main(arguments: Sequence[str]) -> int:
    """Write or check the pages."""
    check = "--check" in arguments
    stale = 0
    for name, text in pages().items():
        path = DOCS / name
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        stale += not same
        if not check:
            path.write_text(text, encoding="utf-8")
        print(f"docs/{name}: {'up to date' if same else 'stale' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
