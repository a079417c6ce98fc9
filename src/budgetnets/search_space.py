"""The space that a search looks through: choices for each letter, and every network that they make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .budget import spec_macs, spec_memory, spec_params
from .checks import MAX_BLOCKS, MAX_INPUT_SIZE, MAX_LAYERS, MAX_WIDTH, choice, did_you_mean, integer, kernels, per_layer
from .spec import LETTERS, OPTIONS, SE_PLACES, ResNetSpec
from .vectorized import Booleans, Integers, Networks, feasible, options_spec

CHUNK = 1 << 14  # networks counted at once: their columns stay in a processor's cache
LARGEST_COUNT = 2**62  # int64 holds it
# The default space. B: 1 to MOST_BLOCKS in each layer, no two layers differing by more than one.
LAYERS, KERNELS, SKIP_KERNELS, POOLS, GROWTHS = (2, 3, 4), (3, 5), (1, 3), (None, 4), (1, 2)
MOST_BLOCKS = 4
FIRST_WIDTHS = (*range(8, 64, 4), *range(64, 129, 8))

ARGUMENTS = ("growth", "limit", "objective", "max_params", "max_macs", "max_memory", "max_latency", *OPTIONS)
MOST_CHOICES = 100_000  # of one letter
MOST_COMBINATIONS = 10**12  # for one N; some millions are searched in a second
PER_LAYER = ("B", "C", "F", "K", "strides")
SKIP_SHARE = 32  # no skip convolution costs more times the block beside it: 16 with bottlenecks, 1 with basic blocks

PerLayer = tuple[int, ...]


@dataclass(frozen=True)
class Layers:
    """The choices for networks of `num_layers` layers; a network takes one of each, and all combinations are meant.

    Args:
        blocks, widths, kernel_sizes, skip_kernel_sizes, strides: (choices, N) each.
        pool_sizes: (choices,); 0 stands for the whole map.
        se: (choices,), indices into SE_PLACES.
    """

    num_layers: int
    blocks: Integers
    widths: Integers
    kernel_sizes: Integers
    skip_kernel_sizes: Integers
    strides: Integers
    pool_sizes: Integers
    se: Integers

    @property
    def choices(self) -> tuple[Integers, ...]:
        per_layer = (self.blocks, self.widths, self.kernel_sizes, self.skip_kernel_sizes, self.strides)
        return (*per_layer, self.pool_sizes, self.se)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(column) for column in self.choices)

    def __len__(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Space:
    """All networks of a search: `layers` has an entry for each N, `options` what all networks share."""

    options: ResNetSpec
    layers: tuple[Layers, ...]

    def __len__(self) -> int:
        return sum(map(len, self.layers))

    def chunks(self) -> Iterator[tuple[int, Networks]]:
        """Yield the space a chunk at a time: how many combinations it is, and those that are networks, each once."""
        for layers in self.layers:
            for start in range(0, len(layers), CHUNK):
                index = np.arange(start, min(start + CHUNK, len(layers)))
                at = np.unravel_index(index, layers.shape)
                columns = [np.ascontiguousarray(c[i].T) for c, i in zip(layers.choices, at, strict=True)]
                networks = Networks(self.options, *columns)
                new = feasible(networks)
                new &= ~_same_pool(networks, layers.pool_sizes)
                new &= ~_same_skips(networks, layers.skip_kernel_sizes, at[3])
                yield len(index), networks if new.all() else networks.select(new)


def _same_pool(networks: Networks, pool_sizes: Integers) -> Booleans:
    """Whether P is the whole map's side in numbers, where the choice None is that network already."""
    return (networks.pool_size == networks.sizes[-1]) & (0 in pool_sizes)


def _same_skips(networks: Networks, skips: Integers, at: Integers) -> Booleans:
    """Whether an earlier choice of K differs only in layers whose skip is an identity, where K has no effect."""
    if len(skips) == 1:
        return np.zeros(at.shape, dtype=bool)
    bits = np.left_shift(np.uint64(1), np.arange(networks.num_layers, dtype=np.uint64))
    _, example, which = np.unique(bits @ networks.projects, return_index=True, return_inverse=True)
    first = np.empty((len(example), len(skips)), dtype=np.int64)  # by pattern of projections, then choice of K
    for row, i in enumerate(example):
        _, earliest, group = np.unique(skips * networks.projects[:, i], axis=0, return_index=True, return_inverse=True)
        first[row] = earliest[group.ravel()]
    return first[which, at] != at


def make_space(
    N: Any = LAYERS,
    B: Any = None,
    C: Any = None,
    F: Any = KERNELS,
    K: Any = SKIP_KERNELS,
    P: Any = POOLS,
    se: Any = SE_PLACES,
    strides: Any = None,
    growth: Any = GROWTHS,
    **options: Any,
) -> Space:
    """Return the space of `search`'s arguments.

    Raises:
        TypeError, ValueError: a choice that `ResNetSpec` would refuse, one that no N can use, or a space too large to
            be counted in 64 bits.
    """
    for name in options:
        if name not in OPTIONS:
            raise TypeError(
                f"unknown option {name!r}{did_you_mean(name, ARGUMENTS)} Beside the letters there are "
                f"{', '.join(ARGUMENTS)}"
            )
    shared = options_spec(**options)
    numbers = sorted({integer("N", n, 1, MAX_LAYERS) for n in _choices("N", N)})
    given = {"B": B, "C": C, "F": F, "K": K, "strides": strides}
    chosen = {name: None if value is None else _choices(name, value) for name, value in given.items()}
    growths = sorted({integer("growth", g, 1, MAX_WIDTH) for g in _choices("growth", growth)})
    _refuse_lengths_of_no_layer_count(chosen, numbers)

    pools = [0 if p is None else integer("P (pool_size)", p, 1, MAX_INPUT_SIZE) for p in _choices("P", P)]
    places = [SE_PLACES.index(choice("se", place, SE_PLACES)) for place in _choices("se", se)]
    layers = []
    for n in numbers:
        tables = (
            _table("B", _blocks(chosen["B"], n), n),
            _table("C", _widths(chosen["C"], n, growths), n),
            _table("F", _kernels("F", chosen["F"], n, shared.input_size), n),
            _table("K", _kernels("K", chosen["K"], n, shared.input_size), n),
            _table("strides", _strides(chosen["strides"], n), n),
        )
        entry = Layers(n, *tables, np.array(list(dict.fromkeys(pools))), np.array(list(dict.fromkeys(places))))
        if math.prod(entry.shape) > MOST_COMBINATIONS:
            raise ValueError(
                f"N={n} has {math.prod(entry.shape):.0e} combinations of the choices, and a search goes through all; "
                f"give fewer choices, {MOST_COMBINATIONS:.0e} combinations at most"
            )
        if len(entry):
            _refuse_uncountable(shared, entry)
            layers.append(entry)
    if not layers:
        raise ValueError(f"no N of {numbers} has a choice for each letter; give B, C, F and K one of the same length")
    return Space(shared, tuple(layers))


def _choices(name: str, values: Any) -> list[Any]:
    """Return a list of choices from one choice or an iterable of them."""
    if values is None or isinstance(values, str | bytes):
        return [values]
    values = values.tolist() if hasattr(values, "tolist") else values  # arrays and tensors
    if isinstance(values, Mapping):
        raise TypeError(f"{name}={values!r} must be a choice or a list of choices, not a mapping")
    try:
        found = [value.tolist() if hasattr(value, "tolist") else value for value in values]
    except TypeError:  # one number
        return [values]
    if not found:
        raise ValueError(f"{name}={values!r} has no choice; give at least one, or leave it out")
    scalars = [value for value in found if isinstance(value, int)]
    for value in scalars:
        if name in PER_LAYER and scalars.count(value) > 1:
            raise ValueError(
                f"{name}={found} has the choice {value} twice; for one network with a value for each layer write "
                f"{name}=[{found}]"
            )
    return found


def _refuse_lengths_of_no_layer_count(chosen: Mapping[str, list[Any] | None], numbers: Sequence[int]) -> None:
    for name, choices in chosen.items():
        for value in choices or ():
            if hasattr(value, "__len__") and not isinstance(value, str) and len(value) not in numbers:
                raise ValueError(
                    f"{name} has the choice {value!r} of {len(value)} entries, but N is one of {numbers}; "
                    f"give one entry per layer, or add N={len(value)}"
                )


def _per_layer(choices: Iterable[Any], n: int) -> Iterator[Any]:
    """Yield the choices that are for networks of n layers: numbers, and sequences of n."""
    return (value for value in choices if not hasattr(value, "__len__") or isinstance(value, str) or len(value) == n)


def _table(letter: str, choices: Iterable[PerLayer], n: int) -> Integers:
    """Return the choices as an array (choices, n), each once, in their order."""
    found = dict.fromkeys(itertools.islice(choices, MOST_CHOICES + 1))
    if len(found) > MOST_CHOICES:
        raise ValueError(
            f"{letter} has more than {MOST_CHOICES:,} choices for N={n}; give fewer, as lists of one entry per layer"
        )
    return np.array(list(found), dtype=np.int64).reshape(-1, n)


def _blocks(choices: list[Any] | None, n: int) -> Iterator[PerLayer]:
    if choices is not None:
        return (per_layer("B (blocks)", value, n, MAX_BLOCKS) for value in _per_layer(choices, n))
    about_equal = (itertools.product((b, b + 1), repeat=n) for b in range(1, MOST_BLOCKS))
    return itertools.chain.from_iterable(about_equal)


def _widths(choices: list[Any] | None, n: int, growths: Sequence[int]) -> Iterator[PerLayer]:
    for value in _per_layer(FIRST_WIDTHS if choices is None else choices, n):
        if hasattr(value, "__len__"):
            yield per_layer("C (widths)", value, n, MAX_WIDTH)
            continue
        first = integer("C (widths)", value, 1, MAX_WIDTH)
        for factors in itertools.product(growths, repeat=n - 1):
            widths = tuple(itertools.accumulate(factors, lambda width, factor: width * factor, initial=first))
            if widths[-1] <= MAX_WIDTH:
                yield widths


def _kernels(letter: str, choices: list[Any] | None, n: int, input_size: int) -> Iterator[PerLayer]:
    name = f"{letter} ({LETTERS[letter]})"
    return (kernels(name, value, n, input_size) for value in _per_layer(choices or [None], n))


def _strides(choices: list[Any] | None, n: int) -> Iterator[PerLayer]:
    usual = (1,) + (2,) * (n - 1)
    found = (usual if value is None else value for value in _per_layer(choices or [None], n))
    return (per_layer("strides", value, n, MAX_INPUT_SIZE) for value in found)


def _refuse_uncountable(shared: ResNetSpec, layers: Layers) -> None:
    """Raise where a count might not fit into int64, by a network that has the largest choice of everything."""
    n = layers.num_layers
    kernel = int(max(layers.kernel_sizes.max(), layers.skip_kernel_sizes.max()))
    letters = {"B": layers.blocks.max(0).tolist(), "C": layers.widths.max(0).tolist(), "F": kernel, "K": kernel}
    values = shared.to_dict() | letters | {"N": n, "P": 1, "strides": [1] * n, "se": "block", "norm": "batchnorm2d"}
    dearest = ResNetSpec.from_dict(values)
    largest = max(count(dearest) for count in (spec_params, spec_macs, spec_memory))
    if SKIP_SHARE * largest > LARGEST_COUNT:
        raise ValueError(
            f"the space has networks that cost about {largest:.1e}, and no more than "
            f"{LARGEST_COUNT // SKIP_SHARE:.1e} is counted; use smaller choices (the largest are {letters})"
        )
