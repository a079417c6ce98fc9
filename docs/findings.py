"""How accuracies over seeds are told, and when a difference is called one."""

import statistics


def spread(values: list[float]) -> str:
    """Mean, standard deviation and number."""
    if len(values) == 1:
        return f"{values[0]:.2f} (1 seed)"
    return f"{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f} ({len(values)} seeds)"


def finding(points: float, error: float) -> str:
    """What a difference, in percentage points, and its standard error allow to say."""
    if abs(points) <= 2 * error:
        return "no difference shown"
    return "pays" if points > 0 else "costs"
