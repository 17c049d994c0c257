"""`make bench`: the speed of the environments, as a part of its own at the end of the page.

Times are processor seconds (`time.process_time`), which other processes on the machine disturb
little; with two threads, seconds of the clock. A measurement lasts whole episodes, so that every
step carries its share of the resets. Nothing here passes or fails by a narrow margin.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sbs_gym.envs.config import env_config
from sbs_gym.envs.core import EnvBatch
from sbs_gym.envs.registration import IDS
from sbs_gym.envs.tasks import TASKS, task_of
from tests.bench.test_speed import ENVIRONMENTS, PAGE

pytestmark = pytest.mark.bench

WINDOW_BUDGET = "SBS/WindowBudget-v0"
PREFILL = {
    "cluster": {"preset": "h800_3p1d", "prefill_dp": 8, "num_decode": 0},
    "workload": "sbs_long",
    "load": 0.5,
    "timing": "linear",
    "warmup_s": 0.0,
    "action": "flat",
}
PREFILL_ALONE = {"cluster": {"preset": "h800_3p1d", "num_decode": 0}}
EPISODES = 512  # of a measurement, at least
ROW_S = 4.0  # a row takes the best of as many plays as fit; two at least
PPO_STEPS = 8_192
PPO_PAIRS = 24
FREE_EPISODE = 660  # steps, about those of an episode here
COLUMNS = "what | environments | steps per episode | thousand steps/s | µs per step"


@dataclass(frozen=True)
class Case:
    """One row: what is measured, and through what."""

    what: str
    num_envs: int = 256
    id: str = WINDOW_BUDGET
    options: dict[str, Any] = field(default_factory=lambda: dict(PREFILL))
    through: str = "vector"
    num_threads: int = 1
    episodes: int = EPISODES


def cases():
    for through in ("core", "vector"):
        for count in (1, 16, 64, 256, 1024):
            yield Case(
                f"bare core, {count}" if through == "core" else f"vector, {count}",
                count,
                through=through,
            )
    no_link = PREFILL["cluster"] | {"dispatch_delay_s": 0.0, "signal_delay_s": 0.0}
    yield Case("bare core, no link delays", options=PREFILL | {"cluster": no_link}, through="core")
    yield Case("num_threads=2, clock time", num_threads=2)
    yield Case("reward.baseline=sbs", options=PREFILL | {"reward": {"baseline": "sbs"}})
    yield Case("warmup_s=(0, 60)", options=PREFILL | {"warmup_s": (0.0, 60.0)})
    yield Case("observation=dict", options=PREFILL | {"observation": "dict"})
    yield Case("default cluster, prefill alone", 16, options=PREFILL_ALONE, episodes=64)
    for id in IDS:
        yield Case(f"defaults, {id}", 16, id=id, options={}, episodes=16)


def test_print_the_speed_of_the_environments():
    rows = [row(case) for case in cases()]
    lines = [
        *ENVIRONMENTS.split("\n"),
        f"Random actions, `{WINDOW_BUDGET}` with `action=flat` unless another one is named; 3 x 8",
        "ranks for prefill alone, `sbs_long`, load 0.5, `timing=linear`, no warm-up, episodes of",
        "120 s. Processor time of one core, over whole episodes, resets included (SAME_STEP);",
        f"best of the plays of {ROW_S:.0f} s.",
        "The last rows are all defaults: `h800_3p1d`, the whole path, `sbs_short` at load 0.7, the",
        "roofline, a warm-up of up to 60 s.",
        "",
        f"| {COLUMNS} |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "| one environment, one step | µs |",
        "|---|---|",
        *single_rows(),
        "",
        "| PPO of Stable-Baselines3, frames per second | |",
        "|---|---|",
        *ppo_rows(),
        "",
        "PPO: 64 environments, rollouts and batches of 2,048, 4 epochs, 64 x 64, one thread;",
        "in turn with an environment of the same shapes and episodes that does nothing.",
        "",
    ]
    if PAGE.is_file():
        before = PAGE.read_text(encoding="utf-8").partition(ENVIRONMENTS)[0].rstrip("\n")
        PAGE.write_text(before + "\n" + "\n".join(lines), encoding="utf-8")
    print("\n" + "\n".join(lines))


def row(case):
    start, play = player(case)
    start()
    clock = time.process_time if case.num_threads == 1 else time.perf_counter
    rounds = max(1, -(-case.episodes // case.num_envs))
    runs, until = [], time.perf_counter() + ROW_S
    while len(runs) < 2 or time.perf_counter() < until:
        runs.append(played(play, clock, rounds * case.num_envs))
    step_s = min(took_s / steps for took_s, steps, _ in runs)
    length = sum(steps for _, steps, _ in runs) / sum(ended for *_, ended in runs)
    assert step_s < 0.003
    return (
        f"| {case.what} | {case.num_envs} | {length:,.0f} | {1e-3 / step_s:,.0f} | "
        f"{step_s * 1e6:.2f} |"
    )


def player(case):
    """Two functions: reset all environments; make 32 steps and return how many episodes ended."""
    rng, count = np.random.default_rng(0), case.num_envs
    if case.through == "core":
        options = env_config(**case.options)
        core, no_values = EnvBatch(TASKS[task_of(case.id)], options, count), np.zeros(count)
        drawn = rng.integers(core.layout.num_actions, size=(32, count))

        def start():
            for e in range(count):
                core.seed(e, e)
                core.reset(e)

        def play():
            ended = 0
            for actions in drawn:
                core.step(actions, no_values)
                over = core.outcomes["truncated"] | core.outcomes["terminated"]
                for e in np.flatnonzero(over):
                    core.reset(int(e))
                    ended += 1
            return ended, drawn.size

        return start, play
    more = {"autoreset_mode": "SameStep", "num_threads": case.num_threads}
    envs = gym.make_vec(case.id, count, **more, **case.options)
    envs.action_space.seed(0)
    sampled = [envs.action_space.sample() for _ in range(32)]

    def play_vector():
        ended = 0
        for actions in sampled:
            _, _, terminated, truncated, _ = envs.step(actions)
            ended += int((terminated | truncated).sum())
        return ended, len(sampled) * count

    return lambda: envs.reset(seed=0), play_vector


def played(play, clock, episodes):
    """Seconds, steps and episodes until as many have ended."""
    steps = ended = 0
    start = clock()
    while ended < episodes:
        more_ended, more_steps = play()
        ended, steps = ended + more_ended, steps + more_steps
    return clock() - start, steps, ended


# One environment


def single_rows():
    """Microseconds per step, of ours and of Gymnasium's CartPole, in one process."""
    made = gym.make(WINDOW_BUDGET, **PREFILL)
    checked, plain = step_us(made), step_us(made.unwrapped)
    assert plain < 1000
    poles = gym.make_vec("CartPole-v1", 64, vectorization_mode="vector_entry_point")
    poles.reset(seed=0)
    actions = [poles.action_space.sample() for _ in range(64)]
    took_s = []
    for _ in range(50):  # the best of them, as of the environments
        start = time.process_time()
        for action in actions:
            poles.step(action)
        took_s.append(time.process_time() - start)
    batched = min(took_s) / (64 * 64) * 1e6
    return [
        f"| `{WINDOW_BUDGET}`, `gym.make(…).unwrapped` | {plain:.1f} |",
        f"| the same in the wrappers of `gym.make` | {checked:.1f} |",
        f"| `CartPole-v1` of Gymnasium, in its wrappers | {step_us(gym.make('CartPole-v1')):.1f} |",
        f"| `CartPole-v1`, 64 in its NumPy vector, per environment | {batched:.2f} |",
    ]


def step_us(env, steps=30_000):
    """Microseconds of a step, resets left out."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(1024)]
    env.reset(seed=0)
    took_s, done = 0.0, 0
    while done < steps:
        over, start = False, time.process_time()
        while not over:
            _, _, terminated, truncated, _ = env.step(actions[done % 1024])
            over = terminated or truncated
            done += 1
        took_s += time.process_time() - start
        env.reset()
    return took_s / done * 1e6


# A learner


def ppo_rows():
    torch = pytest.importorskip("torch")
    from sbs_gym.envs.sb3 import SB3SchedulingEnv

    torch.set_num_threads(1)
    ours = SB3SchedulingEnv(WINDOW_BUDGET, 64, **PREFILL)
    models = [ppo(ours), ppo(free_like(ours))]
    took_s = np.empty((PPO_PAIRS, 2))
    for pair in took_s:  # in turn, piece by piece: the machine is not always equally fast
        for number, model in enumerate(models):
            start = time.process_time()
            model.learn(PPO_STEPS, reset_num_timesteps=False)
            pair[number] = time.process_time() - start
    mine, free = PPO_STEPS / np.median(took_s, axis=0)
    low, middle, high = np.quantile(took_s[:, 1] / took_s[:, 0], (0.25, 0.5, 0.75))
    assert middle > 0.3
    return [
        f"| `SB3SchedulingEnv` | {mine:,.0f} |",
        f"| an environment that costs nothing | {free:,.0f} |",
        f"| ratio (median of {PPO_PAIRS} pairs; quartiles) | {middle:.3f} ({low:.3f}, {high:.3f})|",
    ]


def ppo(env):
    """A learner that has learned once, so that it is warm and its environments are running."""
    from stable_baselines3 import PPO

    model = PPO(
        "MlpPolicy",
        env,
        n_steps=2048 // env.num_envs,
        batch_size=2048,
        n_epochs=4,
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
        device="cpu",
    )
    return model.learn(2048)


def free_like(env):
    """A VecEnv of the same shapes whose steps do nothing; its episodes end as often."""
    from stable_baselines3.common.vec_env import VecEnv

    class Free(VecEnv):
        def __init__(self):
            self.render_mode = None
            super().__init__(env.num_envs, env.observation_space, env.action_space)
            count = self.num_envs
            self.seen = np.zeros((count, *self.observation_space.shape), dtype=np.float32)
            self.rewards, self.none_ends = np.zeros(count, np.float32), np.zeros(count, bool)
            self.infos = [{}] * count
            self.ages = np.linspace(0, FREE_EPISODE, count, endpoint=False).astype(int)

        def reset(self):
            return self.seen

        def step_async(self, actions):
            pass

        def step_wait(self):
            self.ages += 1
            if self.ages.max() < FREE_EPISODE:
                return self.seen, self.rewards, self.none_ends, self.infos
            ends, infos = self.ages >= FREE_EPISODE, list(self.infos)
            for e in np.flatnonzero(ends):
                infos[e] = {"terminal_observation": self.seen[e], "TimeLimit.truncated": True}
                self.ages[e] = 0
            return self.seen, self.rewards, ends, infos

        def close(self):
            pass

        def get_attr(self, attr_name, indices=None):
            return [getattr(self, attr_name)] * self.num_envs

        def set_attr(self, attr_name, value, indices=None):
            pass

        def env_method(self, method_name, *args, indices=None, **kwargs):
            return []

        def env_is_wrapped(self, wrapper_class, indices=None):
            return [False] * self.num_envs

    return Free()
