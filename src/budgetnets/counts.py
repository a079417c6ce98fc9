"""count_params, count_macs and count_memory: what a network costs, by a variant's name, a spec or the letters."""

from __future__ import annotations

from typing import Any

from .budget import check_budget, spec_macs, spec_memory, spec_params
from .spec import LETTERS, ResNetSpec
from .variants import GIVE_SPEC, find_variant

SIX = ("N", *LETTERS)


def count_params(*network: Any, max_params: float | None = None, **options: Any) -> int:
    """Return the exact number of learned parameters of a network, without building it.

    Its pool is an average, as `build_resnet` has it; timm's "catavgmax" doubles what the classifier takes.

    Args:
        *network: a variant's name, a `ResNetSpec`, or build_resnet's letters: `count_params(N, B, C, F, K, P)`.
        max_params: refuse a network with more parameters, as `build_resnet` does.
        **options: build_resnet's options; they change a named variant or a spec too.

    Raises:
        TypeError, ValueError: as `build_resnet`.
    """
    return spec_params(_resolve(network, max_params, options))


def count_macs(*network: Any, max_params: float | None = None, **options: Any) -> int:
    """Return the exact multiply-adds of one image's forward pass: convolutions and linear layers, without biases.

    That is half of what `torch.utils.flop_counter.FlopCounterMode` counts. Arguments and errors as `count_params`.
    """
    return spec_macs(_resolve(network, max_params, options))


def count_memory(*network: Any, max_params: float | None = None, **options: Any) -> int:
    """Return the peak bytes of fp32 activations while one image passes through the network at inference.

    Counted are the maps that live at once, one layer after the other: a convolution, pool or linear layer holds its
    input and its output, and a block's input stays until its skip has used it. Norms, activations, the scaling of
    squeeze-and-excitation and the addition work in place, as inference engines do; a block computes its main branch
    before its skip. Weights and the convolutions' own scratch space come on top. Arguments and errors as
    `count_params`.
    """
    return spec_memory(_resolve(network, max_params, options))


def _resolve(network: tuple[Any, ...], max_params: float | None, options: dict[str, Any]) -> ResNetSpec:
    if network and isinstance(network[0], str | ResNetSpec):
        first, *letters = network
        if letters:
            raise TypeError(
                f"{letters!r} after {str(first)!r}: give a variant's name or a spec alone, or N, B, C, F, K, P"
            )
        spec = find_variant(first, GIVE_SPEC).spec if isinstance(first, str) else first
        spec = spec.replace(**options) if options else spec
    else:
        if network and isinstance(getattr(network[0], "spec", None), ResNetSpec):  # a network
            raise TypeError(f"a {type(network[0]).__name__} is no spec; give that of the network: model.spec")
        if len(network) > len(SIX):
            raise TypeError(
                f"{network[len(SIX) :]!r} after the six letters: give N, B, C, F, K, P, and options by their names"
            )
        twice = [letter for letter in SIX[: len(network)] if letter in options]
        if twice:
            raise TypeError(f"{', '.join(twice)} given twice, by place and by name; give each of N, B, C, F, K, P once")
        missing = [letter for i, letter in enumerate("NBC") if i >= len(network) and letter not in options]
        if missing:
            raise TypeError(
                f"{', '.join(missing)} missing, without which no network is described; give a variant's name, a spec "
                "(model.spec), or N, B, C, F, K, P"
            )
        spec = ResNetSpec.from_letters(*network, **options)
    if max_params is not None:
        check_budget(spec, max_params)
    return spec
