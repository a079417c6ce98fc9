"""What a network of the family is: one frozen description that validates itself. Plain Python, no torch.

The reports' letters (N, B, C, F, K, P) are the public edge: `ResNetSpec.from_letters`, `to_dict`, `from_dict`.
Inside, the same things have the field's usual names (blocks, widths, kernel_sizes, ...).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .checks import (
    MAX_BLOCKS,
    MAX_CLASSES,
    MAX_INPUT_SIZE,
    MAX_LAYERS,
    MAX_WIDTH,
    choice,
    did_you_mean,
    integer,
    kernels,
    layer_count,
    per_layer,
    rate,
)

# Learned parameters of one activation layer, by timm's name for it. Only PReLU has any (one slope a layer).
ACTIVATIONS: dict[str, int] = dict.fromkeys(
    (
        *("relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "gelu_tanh", "quick_gelu", "silu", "swish"),
        *("mish", "sigmoid", "tanh", "hard_sigmoid", "hardsigmoid", "hard_swish", "hardswish", "hard_mish", "identity"),
    ),
    0,
) | {"prelu": 1}

# Learned parameters per channel of one norm layer, by timm's name for it. These are the ones that take NCHW maps.
NORMS: dict[str, int] = {
    "batchnorm2d": 2,
    "batchnorm": 2,
    "groupnorm": 2,
    "groupnorm1": 2,
    "layernorm2d": 2,
    "layernorm2dfp32": 2,
    "rmsnorm2d": 1,
    "rmsnorm2dfp32": 1,
    "simplenorm2d": 1,
    "simplenorm2dfp32": 1,
}
GROUP_NORM_GROUPS = 32  # timm's default for "groupnorm"
BLOCK_EXPANSION: dict[str, int] = {"basic": 1, "bottleneck": 4}
SE_PLACES = (None, "stem", "block")
INITS = ("default", "he", "xavier", "normal")
STEM_KERNEL_SIZE = 3

LETTERS = {
    "B": "blocks",
    "C": "widths",
    "F": "kernel_sizes",
    "K": "skip_kernel_sizes",
    "P": "pool_size",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """One residual layer as it is built: `blocks` blocks, of which the first has the stride and may project the skip.

    `width` is the C of the reports; `out_width` is what leaves the stage (4 x width with bottleneck blocks).
    `in_size` and `out_size` are the sides of the square maps, in pixels, at the spec's input size.
    """

    index: int
    blocks: int
    width: int
    in_width: int
    out_width: int
    kernel_size: int
    skip_kernel_size: int
    stride: int
    in_size: int
    out_size: int

    @property
    def projects(self) -> bool:
        """Whether the first block's skip is a convolution and not the identity."""
        return self.stride != 1 or self.in_width != self.out_width


@dataclass(frozen=True)
class ResNetSpec:
    """A residual network for small images, fully described and checked.

    Args:
        blocks: B, residual blocks in each layer; a sequence of N integers >= 1. Its length is N.
        widths: C, channels of each layer; N integers or one for all, 1 to 65,536. The stem has `widths[0]` channels.
        kernel_sizes: F, side of the blocks' square kernels; N odd integers or one, at most the input size.
        skip_kernel_sizes: K, side of the projecting skips' kernels, padded K // 2; as F. No effect on an identity skip.
        pool_size: P, side and stride of the average pool before the classifier; divides the final map. None: the
            final map's side, so that one value per channel is left (32 / 2^(N-1) at the reports' strides).
        strides: stride of each layer's first block; N integers >= 1. None: 1, 2, 2, ...
        se: where squeeze-and-excitation stands: None, "stem" (one, after the stem's activation) or "block" (each).
        se_reduction: the squeeze has max(1, width // se_reduction) channels.
        se_bias: whether the two layers of the squeeze-and-excitation have biases.
        block: "basic" (two F x F convolutions) or "bottleneck" (1x1, F x F with the stride, 1x1 to 4 x width).
        act: activation, by timm's name.
        norm: norm layer for NCHW maps, by timm's name.
        drop_rate: dropout before the classifier, 0 to 1.
        block_drop_rate: dropout after each block's final activation, 0 to 1 (report R2).
        drop_path_rate: stochastic depth of the last block, rising linearly from 0 at the first, 0 to 1.
        num_classes: outputs of the classifier; 0 leaves it out.
        in_chans: channels of the images.
        input_size: side of the images in pixels, for which maps, pool and MACs are computed. The built network runs
            at other sizes too.
        init: "default" (PyTorch's), "he" (report R0: He-normal convolutions, Xavier-normal classifier, norm weights
            1 and biases 0), "xavier" (Xavier-normal throughout) or "normal" (N(0, 0.01) throughout).

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a value out of range, or values that do not fit together.

    Source: the family of reports R0 to R4; letters after R2 (Aggarwal and Tiwari), section 2.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    kernel_sizes: tuple[int, ...] = 3  # type: ignore[assignment]  # a scalar stands for all layers
    skip_kernel_sizes: tuple[int, ...] = 1  # type: ignore[assignment]
    pool_size: int = None  # type: ignore[assignment]  # None: the final map's side
    strides: tuple[int, ...] = None  # type: ignore[assignment]  # None: 1, 2, 2, ...
    se: str | None = None
    se_reduction: int = 16
    se_bias: bool = True
    block: str = "basic"
    act: str = "relu"
    norm: str = "batchnorm2d"
    drop_rate: float = 0.0
    block_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    num_classes: int = 10
    in_chans: int = 3
    input_size: int = 32
    init: str = "default"

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        num_layers = layer_count(self.blocks)
        put("input_size", integer("input_size", self.input_size, 1, MAX_INPUT_SIZE))
        put("in_chans", integer("in_chans", self.in_chans, 1, MAX_WIDTH))
        put("num_classes", integer("num_classes", self.num_classes, 0, MAX_CLASSES, "0 builds a headless network"))
        put("blocks", per_layer("B (blocks)", self.blocks, num_layers, MAX_BLOCKS))
        put("widths", per_layer("C (widths)", self.widths, num_layers, MAX_WIDTH))
        put("kernel_sizes", kernels("F (kernel_sizes)", self.kernel_sizes, num_layers, self.input_size))
        put("skip_kernel_sizes", kernels("K (skip_kernel_sizes)", self.skip_kernel_sizes, num_layers, self.input_size))
        if self.strides is None:
            put("strides", (1,) + (2,) * (num_layers - 1))
        put("strides", per_layer("strides", self.strides, num_layers, MAX_INPUT_SIZE))
        put("se", choice("se", self.se, SE_PLACES))
        put("se_reduction", integer("se_reduction", self.se_reduction, 1, MAX_WIDTH))
        put("block", choice("block", self.block, tuple(BLOCK_EXPANSION)))
        put("act", choice("act", self.act, tuple(ACTIVATIONS)))
        put("norm", choice("norm", self.norm, tuple(NORMS)))
        put("init", choice("init", self.init, INITS))
        for name in ("drop_rate", "block_drop_rate", "drop_path_rate"):
            put(name, rate(name, getattr(self, name)))
        if not isinstance(self.se_bias, bool):
            raise TypeError(f"se_bias={self.se_bias!r} must be True or False")

        self._check_sizes()
        if self.norm in ("groupnorm", "groupnorm1"):
            self._check_groups()
        put("pool_size", self._checked_pool_size())

    def _check_sizes(self) -> None:
        minimum = max(STEM_KERNEL_SIZE, *self.strides)
        if self.input_size < minimum:
            raise ValueError(
                f"input_size={self.input_size} is too small for the {STEM_KERNEL_SIZE}x{STEM_KERNEL_SIZE} stem and "
                f"strides={list(self.strides)}; the smallest that works is {minimum}"
            )

    def _check_groups(self) -> None:
        """Refuse what torch's group norm refuses at run time: groups that do not divide, or of a single value."""
        groups = {"groupnorm": GROUP_NORM_GROUPS, "groupnorm1": 1}[self.norm]
        sizes = [(self.widths[0], self.input_size)]
        sizes += [(width, s.out_size) for s in self.stages for width in (s.width, s.out_width)]
        for width, size in sizes:
            if width % groups:
                raise ValueError(
                    f"norm='groupnorm' normalizes {groups} groups, which do not divide {width} channels; "
                    f"use multiples of {groups}, or norm='groupnorm1'"
                )
            if width // groups * size**2 == 1:
                raise ValueError(
                    f"norm={self.norm!r} has a single value per group in a {size}x{size} map of {width} channels; use "
                    f"at least {2 * groups} channels there, smaller strides, or another norm"
                )

    def _checked_pool_size(self) -> int:
        size = self.final_size
        if self.pool_size is None:
            return size
        pool_size = integer("P (pool_size)", self.pool_size, 1, MAX_INPUT_SIZE)
        if size % pool_size:
            fits = ", ".join(str(p) for p in range(1, size + 1) if size % p == 0)
            raise ValueError(
                f"P={pool_size} does not divide the final {size}x{size} map of {self.num_layers} layers; use {fits}, "
                "or None for the whole map"
            )
        return pool_size

    @property
    def num_layers(self) -> int:
        """N, the number of residual layers."""
        return len(self.blocks)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The residual layers as they are built, in order."""
        stages = []
        in_width, in_size = self.widths[0], self.input_size
        expansion = BLOCK_EXPANSION[self.block]
        per_layer = zip(self.blocks, self.widths, self.kernel_sizes, self.skip_kernel_sizes, self.strides, strict=True)
        for i, (blocks, width, kernel, skip_kernel, stride) in enumerate(per_layer):
            # An odd kernel padded by half keeps the map; the stride alone shrinks it, and never below one pixel.
            out_size = (in_size - 1) // stride + 1
            out_width = width * expansion
            stages.append(Stage(i, blocks, width, in_width, out_width, kernel, skip_kernel, stride, in_size, out_size))
            in_width, in_size = out_width, out_size
        return tuple(stages)

    @property
    def final_size(self) -> int:
        """Side of the last map in pixels, at the spec's input size."""
        return self.stages[-1].out_size

    @property
    def num_features(self) -> int:
        """Channels of the last map."""
        return self.stages[-1].out_width

    @property
    def grid(self) -> int:
        """Side of the pooled map that is flattened into the classifier; 1 is a global pool."""
        return self.final_size // self.pool_size

    @classmethod
    def from_letters(
        cls, N: int, B: Any, C: Any, F: Any = 3, K: Any = 1, P: int | None = None, **options: Any
    ) -> ResNetSpec:
        """Return the spec for the reports' six letters.

        Args:
            N: number of residual layers, 1 to 64.
            B, C, F, K: blocks, channels, convolution kernel and skip kernel per layer: one integer for all N layers,
                or a sequence of N (list, tuple, NumPy array, ...).
            P: average-pool kernel, or None for the final map's side.
            **options: any other field of `ResNetSpec`.

        Raises:
            TypeError, ValueError: as `ResNetSpec`; an unknown option is answered with the nearest known one.
        """
        N = integer("N", N, 1, MAX_LAYERS)
        check_options(options)
        blocks = per_layer("B (blocks)", B, N, MAX_BLOCKS)
        return cls(blocks, C, F, K, P, **options)  # type: ignore[arg-type]

    def replace(self, **changes: Any) -> ResNetSpec:
        """Return a copy with the named options changed, checked anew; a pool over the whole final map stays one.

        Raises:
            TypeError: an unknown option, answered with the nearest known one.
        """
        check_options(changes)
        if self.grid == 1:  # whatever the final map's side becomes with another input size or other strides
            return dataclasses.replace(self, **changes, pool_size=None)  # type: ignore[arg-type]
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON-able values, under the names that `build_resnet` takes."""
        values: dict[str, Any] = {"N": self.num_layers}
        letter_of = {field: letter for letter, field in LETTERS.items()}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values[letter_of.get(field.name, field.name)] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ResNetSpec:
        """Return the spec that `to_dict` wrote; keys with a default may be missing.

        Raises:
            TypeError: not a mapping, N, B or C missing, or an unknown key.
            ValueError: as `ResNetSpec`.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"a spec is read from a mapping of names to values, not from {type(values).__name__}")
        missing = [letter for letter in ("N", "B", "C") if letter not in values]
        if missing:
            raise TypeError(f"the spec has no {', '.join(missing)}; N, B and C are required")
        return cls.from_letters(**values)

    def __str__(self) -> str:
        """Return the network as a table, a line per stage."""
        header = ("stage", "map", "blocks", "width", "kernel", "skip", "stride")
        rows = [("stem", _square(self.input_size), "", str(self.widths[0]), "3", "", "1")]
        for stage in self.stages:
            skip = f"{stage.skip_kernel_size}" if stage.projects else "identity"
            counts = (str(stage.blocks), str(stage.out_width), str(stage.kernel_size), skip, str(stage.stride))
            rows.append((f"stage {stage.index + 1}", _square(stage.out_size), *counts))
        head = f"pool {self.pool_size}, {self.num_classes} classes" if self.num_classes else f"pool {self.pool_size}"
        rows.append(("head", _square(self.grid), "", str(self.num_features), "", "", ""))
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (header, *rows)
        ]
        lines[-1] += f"  ({head})"
        options = [f"{self.in_chans}x{_square(self.input_size)} input", f"{self.block} blocks"]
        if self.se:
            options.append(f"squeeze-and-excitation in the {self.se}, reduction {self.se_reduction}")
        plain = {"act": "relu", "norm": "batchnorm2d", "init": "default"}
        options += [f"{name} {getattr(self, name)}" for name, usual in plain.items() if getattr(self, name) != usual]
        rates = ("drop_rate", "block_drop_rate", "drop_path_rate")
        options += [f"{name} {getattr(self, name):g}" for name in rates if getattr(self, name)]
        return "\n".join([", ".join(options), *lines])


OPTIONS = tuple(f.name for f in dataclasses.fields(ResNetSpec) if f.name not in LETTERS.values())


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError for the first key that is not an option of the family, with the nearest known one."""
    for name in options:
        if name not in OPTIONS:
            raise TypeError(
                f"unknown option {name!r}{did_you_mean(name, OPTIONS)} The options are {', '.join(OPTIONS)}"
            )


def _square(size: int) -> str:
    return f"{size}x{size}"
