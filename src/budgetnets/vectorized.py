"""The counts of many networks at once: exactly budget.py's arithmetic, on NumPy columns instead of one spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .budget import BYTES_PER_VALUE
from .spec import (
    ACTIVATIONS,
    BLOCK_EXPANSION,
    GROUP_NORM_GROUPS,
    NORMS,
    SE_PLACES,
    STEM_KERNEL_SIZE,
    ResNetSpec,
)

# As numpy.typing.NDArray, which is slow to import.
Integers = np.ndarray[Any, np.dtype[np.int64]]
Booleans = np.ndarray[Any, np.dtype[np.bool_]]
SE_STEM, SE_BLOCK = SE_PLACES.index("stem"), SE_PLACES.index("block")


@dataclass(frozen=True)
class Networks:
    """n networks of the same number of layers N and the same options, a column each.

    Args:
        options: a spec whose fields beside the letters, the strides and se hold for all.
        blocks, widths, kernel_sizes, skip_kernel_sizes, strides: (N, n), as in `ResNetSpec`.
        pool_size: (n,), side of the pool; 0 stands for the whole map.
        se: (n,), index into SE_PLACES.
    """

    options: ResNetSpec
    blocks: Integers
    widths: Integers
    kernel_sizes: Integers
    skip_kernel_sizes: Integers
    strides: Integers
    pool_size: Integers
    se: Integers

    @property
    def num_layers(self) -> int:
        return len(self.blocks)

    @cached_property
    def out_widths(self) -> Integers:
        """Channels that leave each layer, (N, n)."""
        return self.widths * BLOCK_EXPANSION[self.options.block]

    @cached_property
    def in_widths(self) -> Integers:
        """Channels that enter each layer, (N, n)."""
        return np.concatenate([self.widths[:1], self.out_widths[:-1]])

    @cached_property
    def sizes(self) -> Integers:
        """Side of the map before the first layer and after each, (N + 1, n)."""
        sizes = np.empty((self.num_layers + 1, self.widths.shape[1]), dtype=np.int64)
        sizes[0] = self.options.input_size
        for i, stride in enumerate(self.strides):
            sizes[i + 1] = (sizes[i] - 1) // stride + 1
        return sizes

    @cached_property
    def projects(self) -> Booleans:
        """Whether each layer's first skip is a convolution, (N, n)."""
        return (self.strides != 1) | (self.in_widths != self.out_widths)

    @cached_property
    def grid(self) -> Integers:
        """Side of the pooled map, (n,)."""
        return np.where(self.pool_size == 0, 1, self.sizes[-1] // np.maximum(self.pool_size, 1))

    def select(self, chosen: np.ndarray) -> Networks:
        """Return the networks of an index or a mask."""
        return Networks(
            self.options,
            blocks=self.blocks[:, chosen],
            widths=self.widths[:, chosen],
            kernel_sizes=self.kernel_sizes[:, chosen],
            skip_kernel_sizes=self.skip_kernel_sizes[:, chosen],
            strides=self.strides[:, chosen],
            pool_size=self.pool_size[chosen],
            se=self.se[chosen],
        )

    def spec(self, i: int) -> ResNetSpec:
        """Return network i by itself."""

        def layers(column: Integers) -> tuple[int, ...]:
            return tuple(column[:, i].tolist())

        return dataclasses.replace(
            self.options,
            blocks=layers(self.blocks),
            widths=layers(self.widths),
            kernel_sizes=layers(self.kernel_sizes),
            skip_kernel_sizes=layers(self.skip_kernel_sizes),
            pool_size=int(self.pool_size[i]) or None,
            strides=layers(self.strides),
            se=SE_PLACES[self.se[i]],
        )


def options_spec(**options: Any) -> ResNetSpec:
    """Return a spec that carries what all networks of a column share; its letters mean nothing.

    Raises:
        TypeError, ValueError: as `ResNetSpec`.
    """
    return ResNetSpec((1,), (2 * GROUP_NORM_GROUPS,), **options)


def networks_of(specs: Sequence[ResNetSpec]) -> Networks:
    """Return specs of the same number of layers and the same options as columns."""
    first = specs[0]
    letters = {"blocks": (1,), "widths": (2 * GROUP_NORM_GROUPS,), "kernel_sizes": 3, "skip_kernel_sizes": 1}
    shared = dataclasses.replace(first, **letters, pool_size=None, strides=None, se=None)

    def column(name: str) -> Integers:
        return np.array([getattr(spec, name) for spec in specs], dtype=np.int64).T

    names = ("blocks", "widths", "kernel_sizes", "skip_kernel_sizes", "strides", "pool_size")
    se = np.array([SE_PLACES.index(spec.se) for spec in specs], dtype=np.int64)
    return Networks(shared, **{name: column(name) for name in names}, se=se)


def feasible(networks: Networks) -> Booleans:
    """Whether `ResNetSpec` takes each network, (n,); each value by itself must have been checked before."""
    options, final_size = networks.options, networks.sizes[-1]
    fits = networks.strides.max(axis=0) <= options.input_size
    fits &= (networks.pool_size == 0) | (final_size % np.maximum(networks.pool_size, 1) == 0)
    if options.norm not in ("groupnorm", "groupnorm1"):
        return fits
    groups = GROUP_NORM_GROUPS if options.norm == "groupnorm" else 1
    sizes = networks.sizes[1:]
    fits &= (networks.widths % groups == 0).all(axis=0)
    fits &= (networks.widths[0] // groups) * options.input_size**2 != 1
    for widths in (networks.widths, networks.out_widths):
        fits &= (widths // groups * sizes**2 != 1).all(axis=0)
    return fits


def params(networks: Networks) -> Integers:
    """Learned parameters of each network, (n,); `count_params` of each."""
    options = networks.options
    norm, act = NORMS[options.norm], ACTIVATIONS[options.act]
    stem = networks.widths[0]
    total = _conv(options.in_chans, stem, STEM_KERNEL_SIZE) + norm * stem + act
    total += (networks.se == SE_STEM) * _se_params(options, stem)
    for i in range(networks.num_layers):
        enters, out = networks.in_widths[i], networks.out_widths[i]
        first, later = _block_params(networks, i, enters), _block_params(networks, i, out)
        total += first + (networks.blocks[i] - 1) * later
        skip = _conv(enters, out, networks.skip_kernel_sizes[i]) + norm * out
        total += networks.projects[i] * skip
    if options.num_classes:
        total += (networks.out_widths[-1] * networks.grid**2 + 1) * options.num_classes
    return total


def macs(networks: Networks) -> Integers:
    """Multiply-adds of each network for one image, (n,); `count_macs` of each."""
    options = networks.options
    stem = networks.widths[0]
    total = _conv(options.in_chans, stem, STEM_KERNEL_SIZE) * options.input_size**2
    total += (networks.se == SE_STEM) * _se_macs(options, stem)
    for i in range(networks.num_layers):
        enters, out = networks.in_widths[i], networks.out_widths[i]
        in_size, out_size = networks.sizes[i], networks.sizes[i + 1]
        total += _block_macs(networks, i, enters, in_size)
        total += (networks.blocks[i] - 1) * _block_macs(networks, i, out, out_size)
        total += networks.projects[i] * _conv(enters, out, networks.skip_kernel_sizes[i]) * out_size**2
    return total + networks.out_widths[-1] * networks.grid**2 * options.num_classes


def memory(networks: Networks) -> Integers:
    """Peak bytes of fp32 activations of each network, (n,); `count_memory` of each."""
    options = networks.options
    stem_map = networks.widths[0] * options.input_size**2
    peak = options.in_chans * options.input_size**2 + stem_map
    with_se = stem_map + _se_values(options, networks.widths[0])
    peak = np.where(networks.se == SE_STEM, np.maximum(peak, with_se), peak)
    for i in range(networks.num_layers):
        peak = np.maximum(peak, _block_peak(networks, i, first=True))
        later = _block_peak(networks, i, first=False)
        peak = np.where(networks.blocks[i] > 1, np.maximum(peak, later), peak)
    features = networks.out_widths[-1]
    pooled = features * networks.grid**2
    peak = np.maximum(peak, features * networks.sizes[-1] ** 2 + pooled)
    return BYTES_PER_VALUE * np.maximum(peak, pooled + options.num_classes)


def _conv(in_width: Integers | int, out_width: Integers, kernel_size: Integers | int) -> Integers:
    return in_width * out_width * kernel_size**2


def _block_convs(networks: Networks, i: int, in_width: Integers) -> tuple[Integers, ...]:
    width, out, kernel = networks.widths[i], networks.out_widths[i], networks.kernel_sizes[i]
    if networks.options.block == "basic":
        return _conv(in_width, width, kernel), _conv(width, width, kernel)
    return _conv(in_width, width, 1), _conv(width, width, kernel), _conv(width, out, 1)


def _block_params(networks: Networks, i: int, in_width: Integers) -> Integers:
    options, convs = networks.options, _block_convs(networks, i, in_width)
    total = sum(convs) + NORMS[options.norm] * (networks.widths[i] * (len(convs) - 1) + networks.out_widths[i])
    se = (networks.se == SE_BLOCK) * _se_params(options, networks.out_widths[i])
    return total + se + ACTIVATIONS[options.act] * len(convs)


def _block_macs(networks: Networks, i: int, in_width: Integers, in_size: Integers) -> Integers:
    first, *rest = _block_convs(networks, i, in_width)
    out_size = networks.sizes[i + 1]
    first_size = out_size if networks.options.block == "basic" else in_size
    se = (networks.se == SE_BLOCK) * _se_macs(networks.options, networks.out_widths[i])
    return first * first_size**2 + sum(rest) * out_size**2 + se


def _block_peak(networks: Networks, i: int, first: bool) -> Integers:
    in_size, out_size = networks.sizes[i if first else i + 1], networks.sizes[i + 1]
    block_input = (networks.in_widths if first else networks.out_widths)[i] * in_size**2
    narrow, out = networks.widths[i] * out_size**2, networks.out_widths[i] * out_size**2
    main = narrow + out
    if networks.options.block != "basic":
        main = np.maximum(main, networks.widths[i] * in_size**2 + narrow)
    with_se = out + _se_values(networks.options, networks.out_widths[i])
    main = np.where(networks.se == SE_BLOCK, np.maximum(main, with_se), main)
    if first:
        main = np.where(networks.projects[i], np.maximum(main, 2 * out), main)
    return block_input + main


def _se_width(options: ResNetSpec, width: Integers) -> Integers:
    return np.maximum(1, width // options.se_reduction)


def _se_params(options: ResNetSpec, width: Integers) -> Integers:
    squeeze = _se_width(options, width)
    return 2 * width * squeeze + (width + squeeze if options.se_bias else 0)


def _se_macs(options: ResNetSpec, width: Integers) -> Integers:
    return 2 * width * _se_width(options, width)


def _se_values(options: ResNetSpec, width: Integers) -> Integers:
    return width + _se_width(options, width)
