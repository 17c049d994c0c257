"""From what was observed to the logits of the question that stands."""

from __future__ import annotations

import numpy as np

from sbs_gym.jit import compiled
from sbs_gym.schedulers.learned.layers import activate, add_product, copy, scalar_product
from sbs_gym.schedulers.learned.network import DECODE, JOINT, LEAVE, MLP, PREFILL, SINGLE, WINDOW
from sbs_gym.sim.agent_state import Question

_RELEASE, _PREFILL = int(Question.RELEASE), int(Question.PREFILL)
_LOW, _ZERO, _HIGH = np.float32(-10.0), np.float32(0.0), np.float32(10.0)


@compiled
def normalise(net):  # type: ignore[no-untyped-def]
    """Write the inputs: what was observed less its mean, over its spread, clipped to 10."""
    moments = net.moments.reshape(-1)
    for n in range(len(net.taken)):
        value = (moments[net.taken[n]] - net.mean[n]) / net.std[n]
        net.inputs[n] = _LOW if value < _LOW else (_HIGH if value > _HIGH else value)


@compiled
def _find_row_means(net):  # type: ignore[no-untyped-def]
    """Write the mean of the rows where inputs are apart from it."""
    moments = net.moments.reshape(-1)
    for g in range(len(net.groups)):
        group = net.groups[g]
        rows = np.float32(group.rows)
        for j in range(group.columns - group.apart, group.columns):
            mean = _ZERO
            for k in range(group.rows):
                mean += moments[net.taken[group.input_at + k * group.columns + j]]
            for k in range(group.rows):
                net.mean[group.input_at + k * group.columns + j] = mean / rows


@compiled
def forward(net, asked):  # type: ignore[no-untyped-def]
    """Write the logits: of a set those of the question `asked`, of an mlp those of all."""
    _find_row_means(net)
    normalise(net)
    if net.header.kind == MLP:
        _forward_mlp(net)
        return
    z = _join(net)
    if asked == _RELEASE:
        _dense(net, WINDOW, z, net.logits[: net.header.num_windows])
    elif asked == _PREFILL:
        dp = _score_ranks(net, 0, PREFILL, z)
        _dense(net, LEAVE, z, net.logits[dp : dp + 1])
    else:
        _score_ranks(net, 1, DECODE, z)


@compiled
def _dense(net, n, x, y):  # type: ignore[no-untyped-def]
    """Write layer `n` of x into y, without its activation."""
    copy(y, net.weights, net.layers[n].bias_at)
    add_product(y, x, net.weights, net.layers[n].at)


@compiled
def _forward_mlp(net):  # type: ignore[no-untyped-def]
    x, count = net.inputs, len(net.layers)
    for n in range(count - 1):
        buffer = net.first if n % 2 == 0 else net.second
        y = buffer[: net.layers[n].num_out]
        _dense(net, n, x, y)
        activate(net.header.activation, y)
        x = y
    _dense(net, count - 1, x, net.logits)


@compiled
def _join(net):  # type: ignore[no-untyped-def]
    """Return what a set makes of everything it sees; every row's own stays in `hidden`."""
    width, activation = net.header.width, net.header.activation
    context = net.joint[:width]
    _dense(net, SINGLE, net.inputs[: net.header.num_single], context)
    activate(activation, context)
    for g in range(len(net.groups)):
        _pool(net, g, context)
    z = net.second[:width]
    _dense(net, JOINT, net.joint, z)
    activate(activation, z)
    return z


@compiled
def _pool(net, g, context):  # type: ignore[no-untyped-def]
    """Write mean and maximum over the rows of group `g`, and what each row is by itself."""
    width, group = net.header.width, net.groups[g]
    base = net.first[:width]  # the same for all rows
    copy(base, net.weights, group.bias_at)
    add_product(base, context, net.weights, group.context_at)
    start = width * (1 + 2 * g)
    mean, most = net.joint[start : start + width], net.joint[start + width : start + 2 * width]
    for k in range(group.rows):
        row_at = group.input_at + k * group.columns
        hidden_at = (group.hidden_at + k) * width
        h = net.hidden[hidden_at : hidden_at + width]
        copy(h, base, 0)
        add_product(h, net.inputs[row_at : row_at + group.columns], net.weights, group.at)
        activate(net.header.activation, h)
        if k == 0:
            copy(mean, h, 0)
            copy(most, h, 0)
        else:
            for j in range(width):
                mean[j] += h[j]
                most[j] = h[j] if h[j] > most[j] else most[j]
    rows = np.float32(group.rows)
    for j in range(width):
        mean[j] /= rows


@compiled
def _score_ranks(net, which, layer, z):  # type: ignore[no-untyped-def]
    """Write the logit of every rank of a group; return their number."""
    width, score = net.header.width, net.scores[which]
    group = net.groups[score.group]
    base, h = net.joint[:width], net.first[:width]  # both have done their work
    _dense(net, layer, z, base)
    for k in range(group.rows):
        hidden_at = (group.hidden_at + k) * width
        copy(h, base, 0)
        add_product(h, net.hidden[hidden_at : hidden_at + width], net.weights, score.rows_at)
        activate(net.header.activation, h)
        net.logits[k] = scalar_product(h, net.weights, score.score_at)
        if score.direct_at >= 0:
            row_at = group.input_at + k * group.columns
            row = net.inputs[row_at : row_at + group.columns]
            net.logits[k] += scalar_product(row, net.weights, score.direct_at)
    return group.rows
