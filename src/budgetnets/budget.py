"""What a network costs, by arithmetic on its spec: exact parameters, multiply-adds and memory, nothing built."""

from __future__ import annotations

from .checks import cost_limit
from .spec import ACTIVATIONS, NORMS, STEM_KERNEL_SIZE, ResNetSpec, Stage

BYTES_PER_VALUE = 4  # fp32


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
