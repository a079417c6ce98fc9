"""What the rounds of a measurement come to: median and quartiles, and ratios taken round by round."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return {"median": middle, "q1": low, "q3": high}


def paired(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Spread of the ratio of two measurements in the same round, which a machine that slows down slows alike."""
    return spread([a / b for a, b in zip(over, under, strict=True)])
