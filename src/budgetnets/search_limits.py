"""The limits of a search: what they may be, and what is said where no network is within them."""

from __future__ import annotations

import math
from typing import Any

from .checks import cost_limit
from .search_results import SearchResult
from .search_space import Space

LIMITS = {"max_params": "parameters", "max_macs": "multiply-adds", "max_memory": "bytes of activations"}


def checked_limits(*values: Any) -> dict[str, int]:
    """Return the limits that were given; 20e6 is as good as 20_000_000."""
    limits = {}
    for name, value in zip(LIMITS, values, strict=True):
        if value is not None:
            limits[name] = cost_limit(name, value)
    return limits


def checked_latency(value: Any) -> float | None:
    """Return the limit in milliseconds, if one was given."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__float__") or hasattr(value, "__len__"):
        raise TypeError(f"max_latency={value!r} must be a number of milliseconds")
    if not 0 < value < math.inf:
        raise ValueError(f"max_latency={value!r} is out of range; use milliseconds, more than 0")
    return float(value)


def no_network(space: Space) -> str:
    """Say what a combination of the choices must do to be a network."""
    rules = ["P must divide the last map", "strides must fit the input"]
    if "group" in space.options.norm:
        rules.append(f"the groups of norm={space.options.norm!r} must divide every width")
    return f"no combination of the choices is a network: {', '.join(rules)}"


def nothing_fits(tried: int, smallest: tuple[int, ...], least: dict[str, int], limits: dict[str, int]) -> str:
    """Say why nothing was found."""
    params, macs, memory = smallest
    given = " and ".join(f"{name}={value:,}" for name, value in limits.items())
    also = [f"the least {LIMITS[name]} are {least[name]:,}" for name in limits if name != "max_params"]
    return "; ".join(
        [
            f"none of the space's {tried:,} networks is within {given}",
            f"the smallest has {params:,} parameters, {macs:,} multiply-adds and {memory:,} bytes of activations",
            *also,
            "raise the limit, or give smaller choices for C, B or N",
        ]
    )


def too_slow(tried: int, max_latency: float, fastest: float, macs: int, smallest: SearchResult) -> str:
    """Say that no candidate was fast enough, what the smallest network of the space takes, and what may help.

    Args:
        tried: the number of candidates that were measured.
        max_latency: the limit, in milliseconds.
        fastest, macs: milliseconds and multiply-adds of the fastest candidate.
        smallest: the network with the fewest multiply-adds, with its latency.
    """
    takes = smallest.latency or math.inf
    remedy = "raise the limit, or give smaller choices for C, B or N"
    if takes <= max_latency:
        remedy = f"add a limit such as max_macs={max(smallest.macs, int(macs * max_latency / fastest)):_}"
    return (
        f"none of the {tried} best networks is within max_latency={max_latency:g}; the fastest of them takes "
        f"{fastest:.2f} ms with {macs:,} multiply-adds, and the smallest of the space {takes:.2f} ms with "
        f"{smallest.macs:,} and {smallest.params:,} parameters; {remedy}"
    )
