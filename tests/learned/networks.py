"""Small random networks in the format of docs/learned_schedulers.md, and numpy's own forward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.learned import read_weights_file
from sbs_gym.envs.tasks import TASKS, task_of
from sbs_gym.schedulers.learned.forward import forward
from sbs_gym.schedulers.learned.network import lay_out
from sbs_gym.schedulers.learned.weights import layout_on, read_weights
from sbs_gym.schedulers.questions import NUM_MULTIPLIERS, RESERVED
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.features import Group, feature_digest, sizes

HIDDEN = (16, 12)
WIDTH = 12
ROWS = (Group.INSTANCES, Group.RANKS, Group.DECODE_RANKS)


class Writer:
    """Draws the arrays of a network and writes its file."""

    def __init__(
        self,
        id: str,
        action: str,
        cluster: ClusterConfig,
        *,
        kind: str = "mlp",
        history: int = 1,
        activation: str = "tanh",
        relative: bool = False,
        asks: tuple[str, ...] = (),
        reserves: bool = False,
        seed: int = 0,
        **meta: Any,
    ) -> None:
        task = TASKS[task_of(id)]
        self.rng = np.random.default_rng(seed)
        self.action, self.history, self.cluster = action, history, cluster
        self.relative = relative
        self.sees = task.sees
        asked = Question(sum(Question[name.upper()] for name in asks))
        self.answers = asked or task.answers
        self.meta: dict[str, Any] = {
            "format": 1,
            "task": task.id,
            "answers": int(self.answers),
            "sees": int(task.sees),
            "action": action,
            "num_budgets": task.num_budgets,
            "num_orders": task.num_orders,
            "num_reserved": len(RESERVED) if reserves else 1,
            "history": history,
            "kind": kind,
            "activation": activation,
            "features": feature_digest(task.sees),
            "scheduler": {"release": "sbs"},
            "shape": {
                "num_prefill": cluster.num_prefill,
                "prefill_dp": cluster.prefill_dp,
                "num_decode_ranks": cluster.num_decode_ranks,
            },
            "about": "random numbers",
        } | meta
        windows = NUM_MULTIPLIERS * task.num_budgets * task.num_orders
        windows *= self.meta["num_reserved"]
        if action == "multi":
            windows = NUM_MULTIPLIERS + task.num_budgets
        self.num_windows = 1 if action == "box" else windows
        self.arrays: dict[str, NDArray[np.float32]] = {}
        if kind == "mlp":
            self._mlp()
        else:
            self._set()

    def write(self, path: Path) -> Path:
        """Write the file."""
        np.savez_compressed(path, meta=json.dumps(self.meta), **self.arrays)
        return path

    def _draw(self, name: str, *shape: int, scale: float = 1.0) -> None:
        self.arrays[name] = (self.rng.normal(size=shape) * scale).astype(np.float32)

    def _layer(self, weight: str, bias: str, num_in: int, num_out: int) -> None:
        self._draw(weight, num_out, num_in, scale=1.5 * num_in**-0.5)
        self._draw(bias, num_out, scale=0.3)

    def _norm(self, name: str, count: int) -> None:
        self._draw(f"{name}mean", count, scale=0.2)
        std = self.rng.uniform(0.2, 2.0, size=count)
        self.arrays[f"{name}std"] = std.astype(np.float32)

    def _columns(self) -> dict[Group, tuple[int, int]]:
        return {
            group: (rows, len(columns) * self.history)
            for group, (rows, columns) in sizes(self.cluster).items()
            if group & self.sees
        }

    def _seen(self, group: Group) -> int:
        """Return the inputs of a row."""
        return self._columns()[group][1] * (2 if self.relative else 1)

    def _mlp(self) -> None:
        num_in = sum(rows * columns for rows, columns in self._columns().values())
        self._norm("", num_in)
        num_out = self.num_windows if self.answers & Question.RELEASE else 0
        if self.answers & Question.PREFILL:
            num_out += self.cluster.prefill_dp + 1
        if self.answers & Question.DECODE:
            num_out += self.cluster.num_decode_ranks
        for n, width in enumerate((*HIDDEN, num_out)):
            self._layer(f"w{n}", f"b{n}", num_in, width)
            num_in = width

    def _set(self) -> None:
        columns = self._columns()
        single = sum(c for group, (_, c) in columns.items() if group not in ROWS)
        self._norm("single_", single)
        self._layer("w_single", "b_single", single, WIDTH)
        seen = [group for group in ROWS if group in columns]
        for group in seen:
            name = group.name.lower()
            self._norm(f"{name}_", columns[group][1])
            if self.relative:
                spread = self.rng.uniform(0.05, 0.5, size=columns[group][1])
                self.arrays[f"{name}_spread"] = spread.astype(np.float32)
            self._layer(f"{name}_rows", f"{name}_bias", self._seen(group), WIDTH)
            self._draw(f"{name}_context", WIDTH, WIDTH, scale=WIDTH**-0.5)
        self._layer("w_joint", "b_joint", WIDTH * (1 + 2 * len(seen)), WIDTH)
        if self.answers & Question.RELEASE:
            self._layer("w_window", "b_window", WIDTH, self.num_windows)
        for question, name, group in (
            (Question.PREFILL, "prefill", Group.RANKS),
            (Question.DECODE, "decode", Group.DECODE_RANKS),
        ):
            if self.answers & question:
                if self.relative:
                    self._draw(f"{name}_direct", self._seen(group))
                self._layer(f"{name}_rows", f"{name}_bias", WIDTH, WIDTH)
                self._draw(f"{name}_joint", WIDTH, WIDTH, scale=WIDTH**-0.5)
                self._draw(f"{name}_score", WIDTH)
        if self.answers & Question.PREFILL:
            self._draw("prefill_leave", WIDTH, scale=0.3)
            self._draw("prefill_leave_bias", scale=0.3)


class Reader:
    """A network of a file as plain numpy, from the text of the format.

    Attributes:
        num_near: Decisions whose two best logits were closer than 1e-5, and not the same: ranks
            alike are a tie for a set, and the lowest index gets it.
        num_asked: All decisions.
    """

    def __init__(self, path: Path) -> None:
        file = read_weights_file(str(path))
        self.meta, self.arrays = file.meta, file.arrays
        self.path, self._compiled = str(path), None
        self.num_near = self.num_asked = 0

    def _act(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.tanh(x) if self.meta["activation"] == "tanh" else np.maximum(x, np.float32(0))

    def _normal(self, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        mean, std = self.arrays[f"{name}mean"], self.arrays[f"{name}std"]
        return np.clip((x - mean) / std, -10, 10)

    def _mlp(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        a, x, n = self.arrays, self._normal("", flat), 0
        while f"w{n + 1}" in a:
            x = self._act(a[f"w{n}"] @ x + a[f"b{n}"])
            n += 1
        return a[f"w{n}"] @ x + a[f"b{n}"]

    def _set(self, seen: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        a = self.arrays
        parts = [seen[name] for name in ("global", "request") if name in seen]
        c = self._act(
            a["w_single"] @ self._normal("single_", np.concatenate(parts)) + a["b_single"]
        )
        hidden, inputs, joint = {}, {}, [c]
        for name in ("instances", "ranks", "decode_ranks"):
            if name in seen:
                x = self._normal(f"{name}_", seen[name])
                if f"{name}_spread" in a:
                    apart = (seen[name] - seen[name].mean(axis=0)) / a[f"{name}_spread"]
                    x = np.concatenate([x, np.clip(apart, -10, 10)], axis=1)
                inputs[name] = x
                shared = a[f"{name}_context"] @ c + a[f"{name}_bias"]
                hidden[name] = h = self._act(_times(x, a[f"{name}_rows"]) + shared)
                joint += [h.mean(axis=0), h.max(axis=0)]
        z = self._act(a["w_joint"] @ np.concatenate(joint) + a["b_joint"])
        logits = {}
        if "w_window" in a:
            logits["window"] = a["w_window"] @ z + a["b_window"]
        for name, group in (("prefill", "ranks"), ("decode", "decode_ranks")):
            if f"{name}_rows" in a:
                shared = a[f"{name}_joint"] @ z + a[f"{name}_bias"]
                h = self._act(_times(hidden[group], a[f"{name}_rows"]) + shared)
                logits[name] = _times(h, a[f"{name}_score"][None])[:, 0]
                if f"{name}_direct" in a:
                    logits[name] += _times(inputs[group], a[f"{name}_direct"][None])[:, 0]
        if "prefill_leave" in a:
            leave = a["prefill_leave"] @ z + a["prefill_leave_bias"]
            logits["prefill"] = np.append(logits["prefill"], leave)
        return logits

    def action(self, env: Any, seen: Any) -> Any:
        """Return the action in a single environment whose observation has the network's form."""
        layout, legal, agent = env.core.layout, env.core.legal[0], env.core.world(0).agent
        self.num_asked += 1
        if self.meta["kind"] == "mlp":
            logits = self._mlp(seen)
            start, end = 0, len(logits)
            if agent.asked == Question.RELEASE and layout.form not in ("multi", "box"):
                start, end = 0, layout.num_windows
            elif agent.asked == Question.PREFILL:
                start, end = layout.num_windows, layout.decode_offset
            elif agent.asked == Question.DECODE:
                start, end = layout.decode_offset, layout.num_actions
            logits = logits[start:end]
        else:
            name = {1: "window", 2: "prefill", 4: "decode"}[int(agent.asked)]
            logits = self._set(seen)[name]
            start = {1: 0, 2: layout.num_windows, 4: layout.decode_offset}[int(agent.asked)]
        assert logits.dtype == np.float32
        if layout.form == "box":
            return self._box(env, logits)
        if layout.form == "multi":
            return np.array(
                [self._best(logits[:NUM_MULTIPLIERS]), self._best(logits[NUM_MULTIPLIERS:])]
            )
        allowed = legal[start : start + len(logits)]
        return start + self._best(np.where(allowed, logits, -np.inf))

    def _box(self, env: Any, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the compiled network's value: numpy's differs from it by rounding."""
        if self._compiled is None:
            weights, config = read_weights(self.path), env.config
            layout = layout_on(weights, config.scheduler, config.cluster)
            self._compiled = lay_out(weights, layout, config.cluster)
        self._compiled.moments[:] = env._observer.stack[0]
        forward(self._compiled, int(Question.RELEASE))
        np.testing.assert_allclose(self._compiled.logits[:1], logits[:1], atol=1e-5)
        return np.clip(self._compiled.logits[:1], -1, 1)

    def _best(self, logits: NDArray[np.float32]) -> int:
        if len(logits) > 1:
            behind = logits.max() - logits
            self.num_near += bool(np.any((behind > 0) & (behind < 1e-5)))
        return int(np.argmax(logits))


def _times(x: NDArray[np.float32], w: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x times the transpose of w; rows alike stay alike, which BLAS does not promise."""
    return (x[:, None, :] * w).sum(axis=2)
