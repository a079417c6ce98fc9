"""How long a network takes for one image on this machine."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import nn

from .checks import integer
from .network import BudgetResNet
from .spec import ResNetSpec
from .variants import find_variant

MOST_ROUNDS = 1_000_000


@torch.inference_mode()
def measure_latency(
    network: nn.Module | ResNetSpec | str, *, image: torch.Tensor | None = None, rounds: int = 20, warmup: int = 3
) -> float:
    """Return the milliseconds that a network takes for one image, with PyTorch, as it is and where it is.

    A round is a pair of runs, of which the faster counts, since what else the machine does only ever adds time; the
    result is the median of the rounds. The number of threads stays as set (`torch.set_num_threads`).

    Args:
        network: a model, on any device; or a spec or a variant's name, which is built with random weights on the CPU.
        image: what the model is given; by default one random image of its spec's channels and size.
        rounds: pairs of runs, 1 or more.
        warmup: runs before the first, which are not counted, 0 or more.

    Raises:
        TypeError: no network, an image that is no tensor, or a model without a spec and no image.
        ValueError: an unknown name, or a number out of range.
    """
    rounds = integer("rounds", rounds, 1, MOST_ROUNDS)
    warmup = integer("warmup", warmup, 0, MOST_ROUNDS)
    model = _built(network)
    weight = next(model.parameters(), torch.empty(0))
    if image is not None and not isinstance(image, torch.Tensor):
        raise TypeError(f"image is a {type(image).__name__}; give a tensor as the model takes it, (1, 3, 32, 32)")
    if image is None:
        image = _random_image(model).to(weight.device, weight.dtype)
    modules = {module: module.training for module in model.modules()}
    model.eval()
    try:
        for _ in range(warmup):
            _seconds(model, image)
        return 1000 * statistics.median(min(_seconds(model, image), _seconds(model, image)) for _ in range(rounds))
    finally:
        for module, training in modules.items():
            module.training = training


def _built(network: Any) -> nn.Module:
    if isinstance(network, nn.Module):
        return network
    spec = find_variant(network).spec if isinstance(network, str) else network
    if not isinstance(spec, ResNetSpec):
        raise TypeError(f"network={network!r} must be a model, a ResNetSpec or a variant's name")
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        return BudgetResNet(spec)


def _random_image(model: nn.Module) -> torch.Tensor:
    spec = getattr(model, "spec", None)
    if not isinstance(spec, ResNetSpec):
        raise TypeError(f"{type(model).__name__} has no spec to tell its image; give image=torch.randn(1, 3, 32, 32)")
    shape = (1, spec.in_chans, spec.input_size, spec.input_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _seconds(model: nn.Module, image: torch.Tensor) -> float:
    started = time.perf_counter()
    model(image)
    accelerator = torch.accelerator.current_accelerator()
    if accelerator and image.device.type == accelerator.type:
        torch.accelerator.synchronize(image.device)  # the call returns before the accelerator is done
    return time.perf_counter() - started
