"""The environments as plain Python do the same, to the byte."""

from __future__ import annotations

import os
import subprocess
import sys

STORY = """
import hashlib
import gymnasium as gym, numpy as np, sbs_gym
told = hashlib.sha256()
cluster = {"preset": "toy", "chunk_tokens": 512, "prefill_kv_tokens": 100000}
cluster["decode_kv_tokens"] = 100000
for id in ("SBS/WindowBudget-v0", "SBS/Serving-v0"):
    env = gym.make(id, cluster=cluster, timing="linear", rate_per_s=4.0, horizon_s=3.0,
                   warmup_s=(0, 1), reward={"baseline": "sbs"}).unwrapped
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=5)
    for _ in range(40):
        action = int(rng.choice(np.flatnonzero(env.core.legal[0])))
        observation, reward, _, over, _ = env.step(env.actions.encode(action, 0.0))
        told.update(observation.tobytes() + np.float64(reward).tobytes())
        if over:
            env.reset()
print(told.hexdigest())
"""


def told(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", STORY],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_plain_python_tells_the_same_story_as_compiled_code() -> None:
    assert told(NUMBA_DISABLE_JIT="1") == told()
