"""From a trained model to a weights file that the compiled loop plays.

docs/learned_schedulers.md has the format; sbs_gym/schedulers/learned/ reads it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from agents.envs import TrainingEnv
from agents.inputs import ROWS, SINGLE
from agents.mixed_env import MixedEnv
from agents.policies.sets import SetPolicy
from sbs_gym.artifacts import write_all
from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.learned import FORMAT
from sbs_gym.envs.tasks import asked_of
from sbs_gym.sim.features import feature_digest


def export(
    model: BaseAlgorithm,
    env: TrainingEnv | MixedEnv,
    path: Path,
    *,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the policy of a model, whole or not at all.

    Args:
        model: Trained on `env`.
        env: Says what is asked and seen.
        path: The file, ending with .npz.
        about: Further entries of `meta`, such as the training configuration.
    """
    is_set = isinstance(model.policy, SetPolicy)
    meta = _meta(env) | {
        "kind": "set" if is_set else "mlp",
        "activation": "relu" if isinstance(model, DQN) else "tanh",
        **(about or {}),
    }
    arrays = set_arrays(model.policy) if is_set else mlp_arrays(model)
    write_weights(path, meta, arrays)


def write_weights(path: Path, meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write a weights file."""
    values = {name: np.asarray(value, dtype=np.float32) for name, value in arrays.items()}

    def write(target: Path) -> None:
        with target.open("wb") as file:
            np.savez_compressed(file, meta=np.array(json.dumps(meta)), **values)

    write_all(path.parent, {path.name: write})


def shape_of(cluster: ClusterConfig) -> dict[str, int]:
    """Return the numbers of a cluster outside of which an mlp does not play."""
    return {
        "num_prefill": cluster.num_prefill,
        "prefill_dp": cluster.prefill_dp,
        "num_decode_ranks": cluster.num_decode_ranks,
    }


def played_cluster(env: TrainingEnv | MixedEnv) -> ClusterConfig:
    """Return the cluster that a weights file is made for: of `env.clusters` the last."""
    last = env.parts[-1] if isinstance(env, MixedEnv) else env
    return last.core.config.cluster


def _meta(env: TrainingEnv | MixedEnv) -> dict[str, Any]:
    core, config = env.core, env.core.config
    role = core.task.role(core.layout.form, config)
    scheduler = {k: v for k, v in dataclasses.asdict(config.scheduler).items() if k != "learned"}
    return {
        "format": FORMAT,
        "task": core.task.id,
        "answers": int(asked_of(core.task, config)),
        "sees": int(core.task.sees),
        "action": role.form,
        "num_budgets": role.num_budgets,
        "num_orders": role.num_orders,
        "num_reserved": role.num_reserved,
        "budget_of": role.budget_of,
        "history": config.history,
        "features": feature_digest(core.task.sees),
        "scheduler": scheduler,
        "shape": shape_of(played_cluster(env)),
    }


def mlp_arrays(model: BaseAlgorithm) -> dict[str, NDArray[np.float32]]:
    """Return normalisation and layers of a flat policy, or of DQN's Q network."""
    policy = model.policy
    if isinstance(model, DQN):
        extractor, layers = policy.q_net.features_extractor, list(policy.q_net.q_net)
    else:
        extractor = policy.features_extractor
        layers = [*policy.mlp_extractor.policy_net, policy.action_net]
    arrays = {"mean": _numbers(extractor.mean), "std": _numbers(extractor.std)}
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear):
        arrays[f"w{number}"] = _numbers(layer.weight)
        arrays[f"b{number}"] = _numbers(layer.bias)
    return arrays


def set_arrays(policy: SetPolicy) -> dict[str, NDArray[np.float32]]:
    """Return normalisation, trunk and heads of a policy over sets."""
    extractor, net = policy.features_extractor, policy.mlp_extractor
    layout, trunk = extractor.layout, net.actor
    single = [name for name in SINGLE if name in layout]
    arrays = {
        f"single_{kind}": np.concatenate(
            [_numbers(getattr(extractor, f"{name}_{kind}")) for name in single]
        )
        for kind in ("mean", "std")
    }
    arrays |= _linear("single", trunk.single) | _linear("joint", trunk.joint)
    for group in (name for name in ROWS if name in layout):
        for kind in ("mean", "std", *(["spread"] if extractor.relative else [])):
            arrays[f"{group}_{kind}"] = _numbers(getattr(extractor, f"{group}_{kind}"))
        arrays[f"{group}_rows"] = _numbers(trunk.rows[group].weight)
        arrays[f"{group}_bias"] = _numbers(trunk.rows[group].bias)
        arrays[f"{group}_context"] = _numbers(trunk.context[group].weight)
    if net.heads.windows:
        weight, bias = net.window.whole
        arrays |= {"w_window": _numbers(weight), "b_window": _numbers(bias)}
    if net.heads.prefill:
        arrays |= _pointer("prefill", net.prefill)
        arrays["prefill_leave"] = _numbers(net.leave.weight)[0]
        arrays["prefill_leave_bias"] = _numbers(net.leave.bias)
    if net.heads.decode:
        arrays |= _pointer("decode", net.decode)
    return arrays


def _linear(name: str, layer: nn.Linear) -> dict[str, NDArray[np.float32]]:
    return {f"w_{name}": _numbers(layer.weight), f"b_{name}": _numbers(layer.bias)}


def _pointer(name: str, pointer: Any) -> dict[str, NDArray[np.float32]]:
    arrays = {
        f"{name}_rows": _numbers(pointer.rows.weight),
        f"{name}_bias": _numbers(pointer.rows.bias),
        f"{name}_joint": _numbers(pointer.joint.weight),
        f"{name}_score": _numbers(pointer.score.weight)[0],
    }
    if pointer.direct is not None:
        arrays[f"{name}_direct"] = _numbers(pointer.direct.weight)[0]
    return arrays


def _numbers(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().numpy().astype(np.float32)
