"""The best networks of the family under limits: counted exactly, ranked, and listed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from . import vectorized
from .checks import did_you_mean, integer
from .latency import measure_latency
from .prediction import Predictor, features, features_of, load_predictor
from .progress import bar as progress_bar
from .search_limits import LIMITS, checked_latency, checked_limits, no_network, nothing_fits, too_slow
from .search_results import SearchResult, SearchResults
from .search_space import GROWTHS, KERNELS, LARGEST_COUNT, LAYERS, POOLS, SKIP_KERNELS, Space, make_space
from .spec import SE_PLACES, ResNetSpec
from .vectorized import Integers, Networks

OBJECTIVES = ("accuracy", "params")
Objective = str | Callable[[ResNetSpec], float]
MOST_RESULTS = 10_000
MOST_CALLS = 100_000  # of an objective that is a function
MEASURED = 10  # candidates whose latency may be measured for each result asked for


def search(
    max_params: float | None = None,
    max_macs: float | None = None,
    max_memory: float | None = None,
    max_latency: float | None = None,
    *,
    N: Any = LAYERS,
    B: Any = None,
    C: Any = None,
    F: Any = KERNELS,
    K: Any = SKIP_KERNELS,
    P: Any = POOLS,
    se: Any = SE_PLACES,
    strides: Any = None,
    growth: Any = GROWTHS,
    limit: int = 10,
    objective: Objective = "accuracy",
    **options: Any,
) -> SearchResults:
    """Return the best networks of a space under limits, best first, counted exactly and without building any.

    Each letter takes one choice or a list of choices, and the space is all their combinations. A choice is a number
    for all layers, or a sequence with an entry for each layer, which only networks of so many layers use: `B=[1, 2]`
    is one or two blocks everywhere, `B=[[1, 2]]` one and then two. Combinations that `ResNetSpec` refuses are left
    out, and networks that are built alike are listed once.

    Args:
        max_params, max_macs: most learned parameters, and multiply-adds for one image.
        max_memory: most bytes of activations, as `count_memory`.
        max_latency: most milliseconds for one image on this machine, as `measure_latency`. The candidates are measured
            best first until `limit` of them pass, ten for each result at most.
        N: numbers of layers.
        B: blocks; None: 1 to 4 in each layer, no two layers differing by more than one.
        C: widths of the first layer, each of the others having `growth` times its predecessor's; or a width for each
            layer. None: 8 to 128.
        growth: factors between a layer's width and the next, whole numbers; each step takes any of them. 1: the number
            in C stands for all layers.
        F, K, P: kernels, skip kernels and pools, as in `build_resnet`.
        se: places of squeeze-and-excitation.
        strides: as in `ResNetSpec`; None: 1, 2, 2, ...
        limit: most results, 1 to 10,000.
        objective: what is best. "accuracy": the accuracy that the package's predictor expects. "params": most
            parameters. A function from a spec to a number: the highest; it is called for each network that is within
            the limits, 100,000 at most. Of equals those with fewer parameters, then multiply-adds, come first.
        **options: any other option of `ResNetSpec`, the same for all networks.

    Raises:
        TypeError, ValueError: a choice that `ResNetSpec` would refuse, or one that no network can use.
        ValueError: nothing is within the limits; the message says what the smallest network costs.
        ValueError: no accuracy can be predicted.
    """
    limits = checked_limits(max_params, max_macs, max_memory)
    max_latency = checked_latency(max_latency)
    limit = integer("limit", limit, 1, MOST_RESULTS)
    space = make_space(N, B, C, F, K, P, se, strides, growth, **options)
    predictor = _checked_objective(objective, space)
    candidates = limit if max_latency is None else MEASURED * limit
    fitting = _fitting(space, limits)
    ranked = _ranked_by_calls(fitting, objective) if callable(objective) else _ranked(fitting, objective, predictor)
    results = _with_predictions(_best(ranked, candidates), space, predictor)
    if max_latency is not None:
        results = _within_latency(results, max_latency, limit, partial(_cheapest, space, limits))
    return SearchResults(results)


def _checked_objective(objective: Any, space: Space) -> Predictor | None:
    """Return the predictor, where it knows the space's options; else None, and results have no accuracy."""
    predictor = load_predictor()
    unknown = predictor.unknown_options(space.options)
    if isinstance(objective, str):
        if objective not in OBJECTIVES:
            near = did_you_mean(objective, OBJECTIVES)
            raise ValueError(f"objective={objective!r} is unknown{near} Use 'accuracy', 'params' or a function")
    elif not callable(objective):
        raise TypeError(f"objective={objective!r} must be 'accuracy', 'params' or a function from a spec to a number")
    if unknown and objective == "accuracy":
        raise ValueError(
            f"accuracies are predicted from trainings that had other options than {', '.join(unknown)}; "
            'use objective="params" (--objective params), or a function of the spec'
        )
    return None if unknown else predictor


@dataclass(frozen=True)
class _Counted:
    """Networks within the limits, and what they cost."""

    networks: Networks
    params: Integers
    macs: Integers
    memory: Integers

    def select(self, chosen: np.ndarray) -> _Counted:
        counts = (self.params[chosen], self.macs[chosen], self.memory[chosen])
        return _Counted(self.networks.select(chosen), *counts)

    @property
    def costs(self) -> tuple[Integers, Integers, Integers]:
        return self.params, self.macs, self.memory


def _fitting(space: Space, limits: dict[str, int]) -> Iterator[_Counted]:
    """Yield the networks within the limits, a chunk of the space at a time.

    Raises:
        ValueError: at the end, if there was none.
    """
    found, tried, smallest, least = 0, 0, None, dict.fromkeys(LIMITS, LARGEST_COUNT)
    with progress_bar(total=len(space), desc="search", unit=" networks", unit_scale=True, delay=1) as bar:
        for size, networks in space.chunks():
            bar.update(size)
            tried += len(networks.se)
            if not len(networks.se):
                continue
            counts = (vectorized.params(networks), vectorized.macs(networks), vectorized.memory(networks))
            counted = _Counted(networks, *counts)
            fits = np.ones(len(networks.se), dtype=bool)
            for name, costs in zip(LIMITS, counted.costs, strict=True):
                least[name] = min(least[name], int(costs.min()))
                fits &= costs <= limits.get(name, LARGEST_COUNT)
            first = np.lexsort((counted.macs, counted.params))[0]
            here = tuple(int(costs[first]) for costs in counted.costs)
            smallest = min(smallest or here, here)
            if fits.any():
                found += int(fits.sum())
                yield counted.select(fits)
    if not found:
        if smallest is None:
            raise ValueError(no_network(space))
        raise ValueError(nothing_fits(tried, smallest, least, limits))


_Ranked = tuple[_Counted, np.ndarray]


def _ranked(fitting: Iterator[_Counted], objective: str, predictor: Predictor | None) -> Iterator[_Ranked]:
    """Yield networks with their scores; higher is better."""
    for counted in fitting:
        if objective == "accuracy" and predictor:
            yield counted, predictor.log_odds(features(counted.networks))
        else:
            yield counted, counted.params


def _ranked_by_calls(fitting: Iterator[_Counted], objective: Callable[[ResNetSpec], float]) -> Iterator[_Ranked]:
    chunks, total = [], 0
    for counted in fitting:
        chunks.append(counted)
        total += len(counted.params)
        if total > MOST_CALLS:
            raise ValueError(
                f"more than {MOST_CALLS:,} networks are within the limits, and the objective is called for each; "
                "give lower limits or fewer choices for the letters"
            )
    with progress_bar(total=total, desc="objective", unit=" networks", delay=1) as bar:
        for counted in chunks:
            scores = np.empty(len(counted.params))
            for i in range(len(scores)):
                scores[i] = _checked_score(objective, counted.networks.spec(i))
                bar.update()
            yield counted, scores


def _checked_score(objective: Callable[[ResNetSpec], float], spec: ResNetSpec) -> float:
    score = objective(spec)
    # NumPy takes an array of one element for a number, with a warning, and cuts a complex number's second part off.
    if not hasattr(score, "__float__") or np.ndim(score) or isinstance(score, np.complexfloating):
        raise TypeError(f"the objective gave {score!r}; it must give a number")
    try:
        number = float(score)
    except OverflowError:
        raise ValueError(f"the objective gave a whole number too large to be ranked for {spec.to_dict()}") from None
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"the objective gave {score!r}; it must give a number ({error})") from error
    if math.isnan(number):
        raise ValueError(f"the objective gave {score!r} for {spec.to_dict()}; it must give a number that can be ranked")
    return number


def _best(ranked: Iterator[_Ranked], count: int) -> list[SearchResult]:
    """Return the best results in order: by score, then fewer parameters, fewer multiply-adds, and the spec itself."""
    kept: list[tuple[tuple, SearchResult]] = []
    for counted, scores in ranked:
        params, macs = counted.params, counted.macs
        if len(kept) == count:
            may_enter = np.flatnonzero(scores >= -kept[-1][0][0])
        else:
            may_enter = np.arange(len(scores))
        order = may_enter[np.lexsort((macs[may_enter], params[may_enter], -scores[may_enter]))]
        if len(order) > count:  # keep what ties with the last, since the spec decides between them
            last = order[count - 1]
            ties = (scores[order] == scores[last]) & (params[order] == params[last]) & (macs[order] == macs[last])
            order = order[: np.flatnonzero(ties)[-1] + 1]
        for i in order:
            spec = counted.networks.spec(i)
            result = SearchResult(spec, int(params[i]), int(macs[i]), int(counted.memory[i]))
            kept.append(((-scores[i].item(), result.params, result.macs, _key(spec)), result))
        kept = sorted(kept, key=lambda entry: entry[0])[:count]
    return [result for _, result in kept]


def _key(spec: ResNetSpec) -> tuple:
    """What decides between networks that are equal in all else."""
    letters = (spec.num_layers, spec.blocks, spec.widths, spec.kernel_sizes, spec.skip_kernel_sizes, spec.pool_size)
    return (*letters, SE_PLACES.index(spec.se), spec.strides)


def _with_predictions(results: list[SearchResult], space: Space, predictor: Predictor | None) -> list[SearchResult]:
    if predictor is None:
        return results
    found = predictor.predict(features_of([result.spec for result in results]))
    return [
        replace(
            result,
            accuracy=float(found.accuracy[i]),
            uncertainty=float(found.uncertainty[i]),
            extrapolates=bool(found.extrapolates[i]),
        )
        for i, result in enumerate(results)
    ]


def _cheapest(space: Space, limits: dict[str, int]) -> SearchResult:
    """Return the network within the limits that has the fewest multiply-adds."""
    return _best(((counted, -counted.macs) for counted in _fitting(space, limits)), 1)[0]


def _within_latency(
    candidates: list[SearchResult], max_latency: float, limit: int, cheapest: Callable[[], SearchResult]
) -> list[SearchResult]:
    """Return the candidates that are fast enough on this machine, measured in their order until there are `limit`."""
    passed, fastest = [], (math.inf, 0)
    for candidate in progress_bar(candidates, desc="latency", unit=" networks", delay=1):
        latency = measure_latency(candidate.spec)
        fastest = min(fastest, (latency, candidate.macs))
        if latency <= max_latency:
            passed.append(replace(candidate, latency=latency))
        if len(passed) == limit:
            break
    if not passed:
        smallest = cheapest()
        smallest = replace(smallest, latency=measure_latency(smallest.spec))
        raise ValueError(too_slow(len(candidates), max_latency, *fastest, smallest))
    return passed
