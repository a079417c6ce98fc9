"""Checks of single values of a spec. Each returns the value it was given, made plain, or says what is wrong with it."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Iterable, Mapping
from typing import Any

# Caps that stop a typing mistake or a hostile config.json before anything is allocated. The largest network of the
# reports has 8 layers, 50 blocks and 2,048 channels.
MAX_LAYERS = 64
MAX_BLOCKS = 1_000
MAX_WIDTH = 65_536
MAX_INPUT_SIZE = 4_096
MAX_CLASSES = 1_000_000
MAX_LIMIT = 10**15


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """Return `"; did you mean 'x'?"` for the known name nearest to `name`, or just a full stop when none is near."""
    names = [str(k) for k in known if k is not None]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "."


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, of which those of clients and exporters have many, or none."""
    return next(iter(str(error).strip().splitlines()), f"{type(error).__name__} without a message")


def integer(name: str, value: Any, low: int, high: int, note: str = "") -> int:
    """Return `value` as an int between `low` and `high`; NumPy integers are fine, bools, floats and strings are not."""
    note = f" ({note})" if note else ""
    if isinstance(value, bool) or type(value).__name__ == "bool_":  # NumPy 1 counts with its bools
        raise TypeError(f"{name}={value!r} must be an integer, not a bool{note}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} must be an integer, not {type(value).__name__}{note}") from None
    if not low <= number <= high:
        raise ValueError(f"{name}={number} is out of range; use {low} to {high:,}{note}")
    return number


def cost_limit(name: str, value: Any) -> int:
    """Return a limit on what a network may cost as an int, at least 1; 5e6 is as good as 5_000_000."""
    # NumPy's floats are Reals too, and need no import here: counting is arithmetic that works without NumPy.
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral) and float(value).is_integer():
        value = int(float(value))
    return integer(name, value, 1, MAX_LIMIT)


def layer_count(values: Any) -> int:
    """Return N, the number of entries of B, which must be a sequence."""
    try:
        length = len(values)
    except TypeError:  # a scalar, or a zero-dimensional array
        length = None
    if length is None or isinstance(values, str | bytes | Mapping | set | frozenset):
        raise TypeError(f"B (blocks)={values!r} must be a sequence of integers, one per layer")
    if not 1 <= length <= MAX_LAYERS:
        raise ValueError(f"B (blocks) has {length} entries; use one per layer, 1 to {MAX_LAYERS} layers")
    return length


def per_layer(name: str, values: Any, num_layers: int, high: int) -> tuple[int, ...]:
    """Return N checked integers from a scalar (which stands for all layers) or from a sequence of exactly N."""
    if isinstance(values, str | bytes | Mapping | set | frozenset):
        raise TypeError(f"{name}={values!r} must be an integer or a sequence of {num_layers} integers")
    try:
        length = len(values)
    except TypeError:  # a scalar, or a zero-dimensional array
        return (integer(name, values, 1, high),) * num_layers
    if length != num_layers:
        raise ValueError(
            f"{name} has {length} entries, but N={num_layers} layers need {num_layers}; "
            "give one per layer, or one integer for all"
        )
    return tuple(integer(f"{name}[{i}]", value, 1, high) for i, value in enumerate(values))


def kernels(name: str, values: Any, num_layers: int, input_size: int) -> tuple[int, ...]:
    """Return N checked kernel sizes: odd, so that padding by half keeps the map, and no larger than the input."""
    checked = per_layer(name, values, num_layers, MAX_INPUT_SIZE)
    for i, kernel in enumerate(checked):
        odd(f"{name}[{i}]", kernel, MAX_INPUT_SIZE)
        if kernel > input_size:
            raise ValueError(
                f"{name}[{i}]={kernel} is larger than the {input_size}x{input_size} input; "
                f"use an odd kernel of at most {input_size}"
            )
    return checked


def odd(name: str, value: Any, high: int) -> int:
    """Return a kernel size, an odd integer from 1 to `high`."""
    kernel = integer(name, value, 1, high)
    if kernel % 2 == 0:
        raise ValueError(
            f"{name}={kernel} is even, so padding by half would change the map's size; "
            f"use an odd kernel such as {kernel - 1} or {kernel + 1}"
        )
    return kernel


def choice(name: str, value: Any, choices: tuple[str | None, ...]) -> str | None:
    """Return `value` if it is one of the choices; an unknown one is answered with the nearest."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")
    if value not in choices:
        raise ValueError(
            f"{name}={value!r} is unknown{did_you_mean(value, choices)} Use one of {', '.join(map(repr, choices))}"
        )
    return value


def rate(name: str, value: Any) -> float:
    """Return a probability as a float between 0 and 1."""
    if isinstance(value, bool) or not hasattr(value, "__float__") or hasattr(value, "__len__"):
        raise TypeError(f"{name}={value!r} must be a number from 0 to 1")
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        number = math.inf
    if not 0 <= number <= 1:  # nor is NaN
        raise ValueError(f"{name}={value!r} is out of range; use a number from 0 to 1")
    return number
