"""A network laid out for the compiled loop: its numbers in one array, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.errors import ConfigError
from sbs_gym.schedulers.learned.layers import RELU, TANH
from sbs_gym.schedulers.learned.weights import ROW_GROUPS, Weights, input_shape, num_window_logits
from sbs_gym.schedulers.seat import ActionLayout
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.features import Group, sizes
from sbs_gym.sim.state import dtype_of

MLP, SET = 0, 1
HEADER = dtype_of(
    ("kind", np.int64),  # MLP or SET
    ("activation", np.int64),
    ("is_multi", np.int64),  # 1: multipliers and budgets have logits of their own
    ("history", np.int64),
    ("width", np.int64),  # of the hidden layers of a set
    ("num_single", np.int64),  # inputs of a set that belong to no row
    ("num_windows", np.int64),  # logits of the window
    ("num_decode", np.int64),  # ranks
)
LAYER = dtype_of(
    ("num_in", np.int64),
    ("num_out", np.int64),
    ("bias_at", np.int64),
    ("at", np.int64),  # of the transposed matrix
)
ROWS = dtype_of(
    ("rows", np.int64),
    ("columns", np.int64),
    ("apart", np.int64),  # of them, the last ones: apart from the mean of the rows
    ("input_at", np.int64),  # of the first row
    ("hidden_at", np.int64),  # its first row, counted over all groups
    ("at", np.int64),
    ("context_at", np.int64),
    ("bias_at", np.int64),
)
# The layers of a set, in their order; those that it does not need have no outputs.
SINGLE, JOINT, WINDOW, PREFILL, LEAVE, DECODE = range(6)
# What a rank's score is made of: the layer above takes its matrix of z, and these its others.
SCORE = dtype_of(
    ("rows_at", np.int64),
    ("score_at", np.int64),
    ("direct_at", np.int64),  # -1: what is seen of a rank scores through the layers alone
    ("group", np.int64),
)


class Network(NamedTuple):
    """A network as compiled code takes it, and room for what it works out.

    Attributes:
        header: HEADER.
        layers: LAYER, those of an mlp or of a set.
        groups: ROWS, the row groups of a set.
        scores: SCORE, of prefill and of decode ranks, shape (2,).
        weights: float32, all of them.
        taken, mean, std: By input: its place in `moments`, and what normalises it; the mean of
            what is apart from the rows' mean is that, written anew every time.
        moments: float32, (history, num_features), the newest last.
        inputs: float32, (num_inputs,).
        hidden: float32, (rows of all groups, width).
        joint: float32, what JOINT takes.
        first, second: float32, as long as the widest layer.
        logits: float32, of the window, or by prefill rank and to leave, or by decode rank; of an
            mlp all of them.
    """

    header: Any
    layers: NDArray[Any]
    groups: NDArray[Any]
    scores: NDArray[Any]
    weights: NDArray[np.float32]
    taken: NDArray[np.int64]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    moments: NDArray[np.float32]
    inputs: NDArray[np.float32]
    hidden: NDArray[np.float32]
    joint: NDArray[np.float32]
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    logits: NDArray[np.float32]


def lay_out(weights: Weights, layout: ActionLayout, cluster: ClusterConfig) -> Network:
    """Return the network for a cluster.

    Raises:
        ConfigError: If an array is missing or has another shape than this needs.
    """
    packed = _Packed(weights)
    num_windows = num_window_logits(weights.role, layout)
    header = np.zeros(1, dtype=HEADER)[0]
    header.kind = MLP if weights.kind == "mlp" else SET
    header.activation = RELU if weights.activation == "relu" else TANH
    header.is_multi = weights.role.form == "multi"
    header.history = weights.history
    header.num_windows, header.num_decode = num_windows, layout.num_decode
    shape = input_shape(weights, cluster)
    num_seen = sum(rows * columns for rows, columns in shape.values())
    if weights.kind == "mlp":
        num_logits = num_windows + layout.num_prefill + layout.num_decode
        layers = _mlp_layers(packed, num_seen, num_logits)
        groups, scores = np.zeros(0, dtype=ROWS), np.zeros(2, dtype=SCORE)
        taken, norms = np.arange(num_seen), _norms(weights, [("", 1, num_seen)])
        widths = [int(layer.num_out) for layer in layers]
    else:
        header.width = width = len(weights.arrays.get("b_single", ()))
        taken, header.num_single = _taken(weights, cluster), _num_single(shape)
        groups = _row_groups(packed, shape, width, int(header.num_single))
        layers, scores = _set_layers(packed, shape, header, layout)
        norms = _norms(
            weights,
            [
                ("single_", 1, int(header.num_single)),
                *((f"{_name(group)}_", *shape[group]) for group in _seen_rows(shape)),
            ],
        )
        num_logits = max(num_windows, layout.num_prefill, layout.num_decode)
        widths = [width]
    return Network(
        header=header,
        layers=layers,
        groups=groups,
        scores=scores,
        weights=packed.whole(),
        taken=taken,
        mean=norms[0],
        std=norms[1],
        moments=np.zeros((weights.history, num_seen // weights.history), dtype=np.float32),
        inputs=_zeros(len(taken)),
        hidden=_zeros(int(groups["rows"].sum() * header.width)),
        joint=_zeros(int(header.width) * (1 + 2 * len(groups))),
        first=_zeros(max(widths)),
        second=_zeros(max(widths)),
        logits=_zeros(num_logits),
    )


class _Packed:
    """Arrays of a network behind each other, matrices transposed."""

    def __init__(self, weights: Weights) -> None:
        self.source = weights
        self._parts: list[NDArray[np.float32]] = []
        self._size = 0

    def put(self, name: str, *shape: int) -> int:
        """Add an array of this shape, (out, in) if it is a matrix; return where it begins."""
        array = self.source.array(name, shape)
        at = self._size
        self._parts.append((array.T if array.ndim == 2 else array).ravel())
        self._size += array.size
        return at

    def layer(self, weight: str, bias: str, num_in: int, num_out: int) -> tuple[int, ...]:
        """Add a matrix and its bias; return the LAYER."""
        at = self.put(weight, num_out, num_in)
        return num_in, num_out, self.put(bias, num_out), at

    def whole(self) -> NDArray[np.float32]:
        """Return all arrays as one."""
        return np.concatenate(self._parts).astype(np.float32)


def _mlp_layers(packed: _Packed, num_inputs: int, num_logits: int) -> NDArray[Any]:
    arrays, layers, num_in = packed.source.arrays, [], num_inputs
    count = 0
    while f"w{count}" in arrays:
        count += 1
    for n in range(max(count, 1)):
        is_last = n >= count - 1
        num_out = num_logits if is_last else len(arrays.get(f"b{n}", ()))
        layers.append(packed.layer(f"w{n}", f"b{n}", num_in, num_out))
        num_in = num_out
    return _records(layers, LAYER)


def _set_layers(
    packed: _Packed, shape: dict[Group, tuple[int, int]], header: Any, layout: ActionLayout
) -> tuple[NDArray[Any], NDArray[Any]]:
    width, source = int(header.width), packed.source
    num_joint = width * (1 + 2 * len(_seen_rows(shape)))
    layers = [
        packed.layer("w_single", "b_single", int(header.num_single), width),
        packed.layer("w_joint", "b_joint", num_joint, width),
    ]
    layers += [(0, 0, 0, 0)] * 4
    scores: list[tuple[int, ...]] = [(0, 0, -1, 0), (0, 0, -1, 0)]
    answers = source.role.answers
    if answers & Question.RELEASE:
        layers[WINDOW] = packed.layer("w_window", "b_window", width, int(header.num_windows))
    if answers & Question.PREFILL:
        layers[PREFILL], scores[0] = _score(packed, "prefill", Group.RANKS, shape, width)
        layers[LEAVE] = packed.layer("prefill_leave", "prefill_leave_bias", width, 1)
    if answers & Question.DECODE:
        layers[DECODE], scores[1] = _score(packed, "decode", Group.DECODE_RANKS, shape, width)
    return _records(layers, LAYER), _records(scores, SCORE)


def _score(
    packed: _Packed, name: str, group: Group, shape: dict[Group, tuple[int, int]], width: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if group not in shape:
        raise ConfigError(
            f"{packed.source.path}: meta.sees={int(packed.source.role.sees)}: a set network that "
            f"answers for {name} ranks sees their rows; expected a set with {int(group)}"
        )
    layer = packed.layer(f"{name}_joint", f"{name}_bias", width, width)
    rows_at = packed.put(f"{name}_rows", width, width)
    score_at, direct_at = packed.put(f"{name}_score", width), -1
    if f"{name}_direct" in packed.source.arrays:
        columns, num_apart = _columns(packed.source, group, shape)
        direct_at = packed.put(f"{name}_direct", columns + num_apart)
    return layer, (rows_at, score_at, direct_at, _seen_rows(shape).index(group))


def _row_groups(
    packed: _Packed, shape: dict[Group, tuple[int, int]], width: int, input_at: int
) -> NDArray[Any]:
    groups, hidden_at = [], 0
    for group in _seen_rows(shape):
        rows, name = shape[group][0], _name(group)
        columns, num_apart = _columns(packed.source, group, shape)
        columns += num_apart
        at = packed.put(f"{name}_rows", width, columns)
        context_at = packed.put(f"{name}_context", width, width)
        bias_at = packed.put(f"{name}_bias", width)
        groups.append((rows, columns, num_apart, input_at, hidden_at, at, context_at, bias_at))
        input_at += rows * columns
        hidden_at += rows
    return _records(groups, ROWS)


def _columns(
    weights: Weights, group: Group, shape: dict[Group, tuple[int, int]]
) -> tuple[int, int]:
    """Return the numbers seen of a row, and of those behind them apart from the mean row."""
    columns = shape[group][1]
    return columns, columns if _sees_apart(weights, group) else 0


def _sees_apart(weights: Weights, group: Group) -> bool:
    return f"{_name(group)}_spread" in weights.arrays


def _taken(weights: Weights, cluster: ClusterConfig) -> NDArray[np.int64]:
    """Return where the inputs of a set stand among the moments: row by row, in order of time."""
    seen = [(g, *one) for g, one in sizes(cluster).items() if g & weights.role.sees]
    num_features = sum(rows * len(columns) for _, rows, columns in seen)
    moments = np.arange(weights.history)[:, None] * num_features
    places: dict[Group, NDArray[np.int64]] = {}
    start = 0
    for group, rows, columns in seen:
        row = start + np.arange(rows)[:, None, None] * len(columns)
        of_rows = (row + moments + np.arange(len(columns))).reshape(rows, -1)
        places[group] = np.tile(of_rows, 2 if _sees_apart(weights, group) else 1).ravel()
        start += rows * len(columns)
    singles = [group for group in places if group not in ROW_GROUPS]
    order = [*singles, *(group for group in places if group in ROW_GROUPS)]
    return np.concatenate([places[group] for group in order]).astype(np.int64)


def _norms(
    weights: Weights, parts: Sequence[tuple[str, int, int]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and std of every input; rows of a group share theirs."""
    means, stds = [], []
    for name, rows, columns in parts:
        mean = weights.array(f"{name}mean", (columns,))
        std = weights.array(f"{name}std", (columns,))
        if f"{name}spread" in weights.arrays:
            mean = np.concatenate([mean, np.zeros_like(mean)])
            std = np.concatenate([std, weights.array(f"{name}spread", (columns,))])
        means.append(np.tile(mean, rows))
        stds.append(np.tile(std, rows))
    return np.concatenate(means).astype(np.float32), np.concatenate(stds).astype(np.float32)


def _num_single(shape: dict[Group, tuple[int, int]]) -> int:
    return sum(columns for group, (_, columns) in shape.items() if group not in ROW_GROUPS)


def _seen_rows(shape: dict[Group, tuple[int, int]]) -> list[Group]:
    return [group for group in ROW_GROUPS if group in shape]


def _name(group: Group) -> str:
    return str(group.name).lower()


def _records(rows: Sequence[tuple[int, ...]], dtype: Any) -> NDArray[Any]:
    return np.array([tuple(row) for row in rows], dtype=dtype)


def _zeros(count: int) -> NDArray[np.float32]:
    return np.zeros(max(count, 1), dtype=np.float32)
