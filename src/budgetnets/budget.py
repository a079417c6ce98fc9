"""What a network costs, by arithmetic on its spec: exact parameters, multiply-adds and memory, nothing built."""

from __future__ import annotations

from typing import Any

from .checks import cost_limit
from .spec import ACTIVATIONS, NORMS, STEM_KERNEL_SIZE, ResNetSpec, Stage
from .variants import find_variant

BYTES_PER_VALUE = 4  # fp32


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


def check_budget(spec: ResNetSpec, max_params: float, pool_type: str = "avg") -> None:
    """Raise ValueError, with the excess, when the network has more than `max_params` parameters.

    Raises:
        TypeError: `max_params` is no whole number.
    """
    max_params = cost_limit("max_params", max_params)
    params = spec_params(spec, pool_type)
    if params > max_params:
        raise ValueError(
            f"the network has {params:,} parameters, {params - max_params:,} over max_params={max_params:,}; "
            "use fewer blocks or channels, smaller kernels, or a larger budget"
        )


def _resolve(network: tuple[Any, ...], max_params: float | None, options: dict[str, Any]) -> ResNetSpec:
    if network and isinstance(network[0], str | ResNetSpec):
        first, *letters = network
        if letters:
            raise TypeError(
                f"{letters!r} after {str(first)!r}: give a variant's name or a spec alone, or N, B, C, F, K, P"
            )
        spec = find_variant(first).spec if isinstance(first, str) else first
        spec = spec.replace(**options) if options else spec
    else:
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


def spec_params(spec: ResNetSpec, pool_type: str = "avg") -> int:
    """Learned parameters of a spec, classifier included, under a pool of timm's."""
    total = _conv(spec.in_chans, spec.widths[0], STEM_KERNEL_SIZE) + NORMS[spec.norm] * spec.widths[0]
    total += ACTIVATIONS[spec.act]
    if spec.se == "stem":
        total += _se_params(spec, spec.widths[0])
    for stage in spec.stages:
        total += _first_conv(spec, stage) * (stage.in_width + (stage.blocks - 1) * stage.out_width)
        per_block = _other_convs(spec, stage) + _norms_and_activations(spec, stage)
        if spec.se == "block":
            per_block += _se_params(spec, stage.out_width)
        total += stage.blocks * per_block
        if stage.projects:
            total += (stage.in_width * stage.skip_kernel_size**2 + NORMS[spec.norm]) * stage.out_width
    if spec.num_classes:
        total += (_pooled(spec, pool_type) + 1) * spec.num_classes
    return total


def spec_macs(spec: ResNetSpec, pool_type: str = "avg") -> int:
    """Multiply-adds of a spec's convolutions and linear layers for one image of its input size."""
    total = _conv(spec.in_chans, spec.widths[0], STEM_KERNEL_SIZE) * spec.input_size**2
    if spec.se == "stem":
        total += _se_macs(spec, spec.widths[0])
    for stage in spec.stages:
        pixels = stage.out_size**2
        # The basic block strides in its first convolution, the bottleneck in its second.
        first_pixels = pixels if spec.block == "basic" else stage.in_size**2
        repeated = (stage.blocks - 1) * stage.out_width * pixels
        total += _first_conv(spec, stage) * (stage.in_width * first_pixels + repeated)
        total += stage.blocks * _other_convs(spec, stage) * pixels
        if spec.se == "block":
            total += stage.blocks * _se_macs(spec, stage.out_width)
        if stage.projects:
            total += stage.in_width * stage.out_width * stage.skip_kernel_size**2 * pixels
    return total + _pooled(spec, pool_type) * spec.num_classes


def spec_memory(spec: ResNetSpec, pool_type: str = "avg") -> int:
    """Peak bytes of fp32 activations of a spec for one image of its input size; the rules are count_memory's."""
    stem_map = spec.widths[0] * spec.input_size**2
    peak = spec.in_chans * spec.input_size**2 + stem_map
    if spec.se == "stem":
        peak = max(peak, stem_map + _se_values(spec, spec.widths[0]))
    for stage in spec.stages:
        peak = max(peak, _block_peak(spec, stage, first=True))
        if stage.blocks > 1:
            peak = max(peak, _block_peak(spec, stage, first=False))
    pooled = _pooled(spec, pool_type)
    peak = max(peak, spec.num_features * spec.final_size**2 + pooled, pooled + spec.num_classes)
    return BYTES_PER_VALUE * peak


def _pooled(spec: ResNetSpec, pool_type: str) -> int:
    """Values that the classifier takes."""
    return spec.num_features * spec.grid**2 * (2 if pool_type == "catavgmax" else 1)


def _conv(in_width: int, out_width: int, kernel_size: int) -> int:
    return in_width * out_width * kernel_size**2  # no bias: a norm follows each convolution


def _first_conv(spec: ResNetSpec, stage: Stage) -> int:
    """Weights that the first convolution on a block's main branch has for each channel that comes into the block."""
    return stage.width * (stage.kernel_size**2 if spec.block == "basic" else 1)


def _other_convs(spec: ResNetSpec, stage: Stage) -> int:
    """Weights of the other convolutions on a block's main branch: one, or a bottleneck's two."""
    weights = (stage.width * stage.kernel_size) ** 2
    return weights if spec.block == "basic" else weights + stage.width * stage.out_width


def _norms_and_activations(spec: ResNetSpec, stage: Stage) -> int:
    """Parameters of what follows a block's convolutions."""
    before_last = 1 if spec.block == "basic" else 2
    normed = stage.width * before_last + stage.out_width
    return NORMS[spec.norm] * normed + ACTIVATIONS[spec.act] * (before_last + 1)


def _block_peak(spec: ResNetSpec, stage: Stage, first: bool) -> int:
    """Most values alive at once while a block runs; its input waits for the skip all the while."""
    in_size = stage.in_size if first else stage.out_size
    block_input = (stage.in_width if first else stage.out_width) * in_size**2
    narrow, out = stage.width * stage.out_size**2, stage.out_width * stage.out_size**2
    if spec.block == "basic":
        main = narrow + out  # the second convolution's input and output
    else:
        squeezed = stage.width * in_size**2
        main = max(squeezed + narrow, narrow + out)
    if spec.se == "block":
        main = max(main, out + _se_values(spec, stage.out_width))
    if first and stage.projects:
        main = max(main, 2 * out)  # the main branch's result waits while the skip is computed
    return block_input + main


def _se_width(spec: ResNetSpec, width: int) -> int:
    return max(1, width // spec.se_reduction)


def _se_params(spec: ResNetSpec, width: int) -> int:
    squeeze = _se_width(spec, width)
    return 2 * width * squeeze + (width + squeeze if spec.se_bias else 0)


def _se_macs(spec: ResNetSpec, width: int) -> int:
    return 2 * width * _se_width(spec, width)


def _se_values(spec: ResNetSpec, width: int) -> int:
    return width + _se_width(spec, width)  # a layer's input and output beside the map that is scaled
