"""Luck has fixed values by address, the same compiled and in plain Python, and the right mean."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sbs_gym.config.timing import LinearTiming
from sbs_gym.jit import PURE_PYTHON
from sbs_gym.rng import Stream, normal
from sbs_gym.timing.luck import (
    Purpose,
    pass_jitter,
    signal_lost,
    skew_factor,
    skew_next,
    skew_start,
)
from sbs_gym.timing.model import build_timing

LUCKY = LinearTiming(jitter_cv=0.02, skew_mean=1.1, skew_sigma=0.3)
# Seeds 0, 7 and 2**62, instances 0 and 3 each; see table().
GOLDEN = {
    "jitter": [
        1.0071519281120416,
        0.9938231822758911,
        1.0311957414374175,
        1.0300081689399432,
        1.0021268656384426,
        1.003066312869956,
    ],
    "skew_x": [
        2.5625191246295076,
        0.09181955049690177,
        -1.2455834474236576,
        -0.67511045452034,
        -0.38636367314113934,
        -0.1290539839945012,
    ],
    "skew_g": [
        1.206216362989148,
        1.0982697306189924,
        1.0657917961351424,
        1.0780724350022217,
        1.0851369455419904,
        1.0919692232131766,
    ],
    "lost": [False, False, False, False, False, True],
}
_PRINT = "import json; from tests.unit.test_timing_luck import table; print(json.dumps(table()))"


def record(config):
    return build_timing(config, dp=4, ep=4, chunk_tokens=64).coefficients[0]


def table():
    """Return a few numbers of every purpose."""
    timing = record(LUCKY)
    rows = {"jitter": [], "skew_x": [], "skew_g": [], "lost": []}
    for seed in (0, 7, 2**62):
        for instance in (0, 3):
            x = skew_start(timing, seed, instance)
            for k in range(1, 4):
                x = skew_next(timing, seed, instance, k, x)
            rows["skew_x"].append(x)
            rows["skew_g"].append(skew_factor(timing, x))
            rows["jitter"].append(pass_jitter(timing, seed, instance, 3.3))
            rows["lost"].append(bool(signal_lost(seed, instance, 5, 0.5)))
    return rows


def test_luck_has_its_golden_values():
    for name, values in table().items():
        assert values == pytest.approx(GOLDEN[name], rel=1e-12), name


def test_luck_is_the_same_to_the_last_bit_compiled_and_in_plain_python():
    done = subprocess.run(
        [sys.executable, "-c", _PRINT],
        env=os.environ | {"NUMBA_DISABLE_JIT": "0" if PURE_PYTHON else "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == table()


def test_jitter_is_the_documented_lognormal_of_its_grid_cell():
    timing = record(LUCKY)
    sigma = math.sqrt(math.log(1 + 0.02 * 0.02))
    z = normal(7, Stream.TIMING, Purpose.JITTER, 3, 13)  # floor(3.3 / 0.25) = 13
    assert pass_jitter(timing, 7, 3, 3.3) == math.exp(sigma * z - sigma * sigma / 2)
    assert pass_jitter(timing, 7, 3, 3.25) == pass_jitter(timing, 7, 3, 3.49)
    assert pass_jitter(timing, 7, 3, 3.5) != pass_jitter(timing, 7, 3, 3.49)


def test_without_spread_luck_is_exactly_its_mean():
    timing = record(LinearTiming(skew_mean=1.3))
    assert pass_jitter(timing, 1, 2, 3.0) == 1.0
    assert skew_factor(timing, 2.5) == 1.3


def test_mean_jitter_is_one_within_four_standard_errors():
    timing = record(LUCKY)
    values = np.array([pass_jitter(timing, 5, 0, 0.25 * k) for k in range(4000)])
    assert abs(values.mean() - 1.0) < 4 * values.std() / math.sqrt(4000)
    assert values.std() == pytest.approx(0.02, rel=0.1)


def test_skew_starts_and_stays_standard_normal_and_remembers_by_rho():
    timing = record(LUCKY)
    first = np.array([skew_start(timing, seed, 1) for seed in range(4000)])
    second = np.array([skew_next(timing, seed, 1, 1, x) for seed, x in enumerate(first.tolist())])
    for x in (first, second):
        assert abs(x.mean()) < 4 / math.sqrt(4000)
        assert x.std() == pytest.approx(1.0, rel=0.06)
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.95, abs=0.01)
    factors = np.array([skew_factor(timing, x) for x in first])
    assert factors.min() >= 1.0
    assert abs(factors.mean() - 1.1) < 4 * factors.std() / math.sqrt(4000)


def test_signals_are_lost_as_often_as_asked():
    lost = np.array([signal_lost(3, 0, k, 0.1) for k in range(4000)])
    assert abs(lost.mean() - 0.1) < 4 * math.sqrt(0.1 * 0.9 / 4000)
    assert not any(signal_lost(3, 0, k, 0.0) for k in range(100))
