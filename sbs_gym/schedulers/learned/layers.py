"""Layers of a network over flat float32 arrays, every number rounded to float32 at every step.

Matrices lie transposed, (inputs, outputs): a layer adds one input's row after the other to all
outputs at once. That is a loop without a sum across it, so the compiler makes vectors of it, and
plain Python adds in the same order.
"""

from __future__ import annotations

import numpy as np

from sbs_gym.jit import compiled, inlined

TANH, RELU = 0, 1
_ZERO, _MOST = np.float32(0.0), np.float32(10.0)  # tanh(10) is 1 in float32
_QUARTER, _ONE, _TWO = np.float32(0.25), np.float32(1.0), np.float32(2.0)
# Lambert's continued fraction of tanh, cut behind x^7: numerator and denominator in x * x.
_N0, _N1, _N2 = np.float32(135135.0), np.float32(17325.0), np.float32(378.0)
_D1, _D2, _D3 = np.float32(62370.0), np.float32(3150.0), np.float32(28.0)


@compiled
def add_product(y, x, weights, at):  # type: ignore[no-untyped-def]
    """Add x times the matrix (len(x), len(y)) that begins at weights[at] to y.

    Four rows at a time, for y is read and written once for them; added in the order of x.
    """
    width = len(y)
    fours = len(x) // 4 * 4
    for i in range(0, fours, 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        row_a, row_b = _row(weights, at, i, width), _row(weights, at, i + 1, width)
        row_c, row_d = _row(weights, at, i + 2, width), _row(weights, at, i + 3, width)
        for j in range(width):
            y[j] = (((y[j] + a * row_a[j]) + b * row_b[j]) + c * row_c[j]) + d * row_d[j]
    for i in range(fours, len(x)):
        a, row_a = x[i], _row(weights, at, i, width)
        for j in range(width):
            y[j] += a * row_a[j]


@inlined
def _row(weights, at, i, width):  # type: ignore[no-untyped-def]
    return weights[at + i * width : at + (i + 1) * width]


@compiled
def copy(y, weights, at):  # type: ignore[no-untyped-def]
    """Write what begins at weights[at] into y."""
    origin = weights[at : at + len(y)]
    for j in range(len(y)):
        y[j] = origin[j]


@compiled
def activate(activation, y):  # type: ignore[no-untyped-def]
    """Apply the activation to every number of y."""
    if activation == RELU:
        for j in range(len(y)):
            y[j] = y[j] if y[j] > _ZERO else _ZERO
    else:
        for j in range(len(y)):
            y[j] = _tanh(y[j])


@inlined
def _tanh(x):  # type: ignore[no-untyped-def]
    """Return tanh(x) to a few units of the last place, without a call, so that it vectorises.

    The fraction gives tanh of a quarter, and tanh(2 u) = 2 t / (1 + t * t) doubles it twice.
    """
    u = (_MOST if x > _MOST else (-_MOST if x < -_MOST else x)) * _QUARTER
    s = u * u
    t = u * (_N0 + s * (_N1 + s * (_N2 + s))) / (_N0 + s * (_D1 + s * (_D2 + s * _D3)))
    t = _TWO * t / (_ONE + t * t)
    return _TWO * t / (_ONE + t * t)


@compiled
def scalar_product(x, weights, at):  # type: ignore[no-untyped-def]
    """Return the scalar product of x with what begins at weights[at]."""
    other = weights[at : at + len(x)]
    total = _ZERO
    for j in range(len(x)):
        total += x[j] * other[j]
    return total
