"""How accuracies over seeds are told, and when a difference is called one."""

import math
import statistics

from scipy.stats import t


def spread(values: list[float]) -> str:
    """Mean, standard deviation and number."""
    if len(values) == 1:
        return f"{values[0]:.2f} (1 seed)"
    return f"{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f} ({len(values)} seeds)"


def finding(points: float, error: float, degrees: float = math.inf) -> str:
    """What a difference in percentage points, its standard error, and the error's degrees of freedom allow to say."""
    if abs(points) <= max(2.0, t.ppf(0.975, degrees)) * error:
        return "no difference shown"
    return "pays" if points > 0 else "costs"
