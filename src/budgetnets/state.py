"""What a state dict must be before it is loaded, and the errors for when it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SHOWN = 5  # names listed in a message before the rest is only counted


class WeightsError(RuntimeError):
    """Something is wrong with trained weights; the message says with which, where, and what to do."""


class WeightsUnavailable(WeightsError):
    """The weights do not exist, or could not be had from where they were looked for."""


class WeightsIntegrity(WeightsError):
    """A file's bytes are not the ones that were published: truncated, altered, or not safetensors at all."""


class WeightsMismatch(WeightsError):
    """A file is intact but does not belong to the network: other names, shapes or dtypes, or values not finite."""


def check_state_dict(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], where: str) -> None:
    """Raise WeightsMismatch unless `state` has exactly the expected names, shapes, dtypes and finite values.

    Args:
        state: name -> tensor, as read.
        expected: name -> tensor of a network of the same architecture; meta tensors will do.
        where: how a message names the source.
    """
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        raise WeightsMismatch(
            f"{where} is not for this network: {_listed('missing', missing)}, {_listed('unexpected', unexpected)}. "
            "Load it into the architecture that it was saved from."
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise WeightsMismatch(
                f"{where}: {name} has shape {tuple(tensor.shape)}, the network's is {tuple(expected[name].shape)}. "
                "Load it into the architecture that it was saved from."
            )
    check_values(state, expected, where)


def check_values(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], where: str) -> None:
    """Raise WeightsMismatch for tensors that torch would cast or load silently: other kinds of dtype, NaN, infinity."""
    for name, tensor in state.items():
        if name not in expected:
            continue
        is_float = expected[name].is_floating_point()
        if not isinstance(tensor, torch.Tensor):
            raise WeightsMismatch(f"{where}: {name} is a {type(tensor).__name__}, not a tensor.")
        if (is_float and tensor.dtype not in FLOAT_DTYPES) or (not is_float and tensor.dtype != expected[name].dtype):
            raise WeightsMismatch(
                f"{where}: {name} has dtype {tensor.dtype}; use "
                f"{'float16, bfloat16, float32 or float64' if is_float else expected[name].dtype}."
            )
        if is_float and not _is_finite(tensor):
            raise WeightsMismatch(
                f"{where}: {name} has values that are not finite (NaN or infinity); the run that wrote it diverged or "
                "the file is damaged. Use another checkpoint."
            )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite: the extremes tell, and are found without a copy of the tensor."""
    if tensor.is_meta or not tensor.numel():
        return True
    return all(math.isfinite(extreme.item()) for extreme in tensor.aminmax())


def _listed(kind: str, names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} {kind} names" + (f" ({shown})" if names else "")
