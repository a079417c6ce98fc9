"""What a search gives: networks with their costs, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from .network import BudgetResNet
from .spec import ResNetSpec


@dataclass(frozen=True)
class SearchResult:
    """One network that a search found.

    Args:
        spec: the architecture.
        params, macs, memory: what it costs, as `count_params`, `count_macs` and `count_memory` say.
        accuracy: predicted top-1 in percent after the short training of the predictor's networks, which ranks
            networks and promises nothing; None where there is no prediction.
        uncertainty: standard deviation of the prediction, in percentage points, or None.
        extrapolates: whether the network lies beyond those that the predictor was fitted to.
        latency: measured milliseconds for one image, or None where none was asked for.
    """

    spec: ResNetSpec
    params: int
    macs: int
    memory: int
    accuracy: float | None = None
    uncertainty: float | None = None
    extrapolates: bool = False
    latency: float | None = None

    def build(self) -> BudgetResNet:
        """Return the network, randomly initialized."""
        return BudgetResNet(self.spec)


class SearchResults(Sequence[SearchResult]):
    """What a search found, best first; printed as a table with a row for each network."""

    def __init__(self, results: Sequence[SearchResult]) -> None:
        self._results = tuple(results)

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> SearchResult: ...

    @overload
    def __getitem__(self, index: slice) -> SearchResults: ...

    def __getitem__(self, index: int | slice) -> SearchResult | SearchResults:
        return SearchResults(self._results[index]) if isinstance(index, slice) else self._results[index]

    def __eq__(self, other: object) -> bool:
        return self._results == other._results if isinstance(other, SearchResults) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._results)

    def __str__(self) -> str:
        columns = _columns(self._results)
        lines = zip(*([name, *cells] for name, cells in columns.items()), strict=True)
        widths = [max(map(len, (name, *cells))) for name, cells in columns.items()]
        table = ["  ".join(map(str.rjust, line, widths)) for line in lines]
        beyond = [result.extrapolates for result in self._results]
        if any(beyond):
            table.append("* beyond the networks that the predictor was fitted to")
        if beyond and all(beyond):
            table.append('  as all of these are: look at objective="params" too, or set a lower max_macs')
        return "\n".join(table)

    __repr__ = __str__


def _columns(results: Sequence[SearchResult]) -> dict[str, list[str]]:
    """Return the table's cells by heading; what no result has, or all have as usual, is left out."""
    specs = [result.spec for result in results]
    columns = {
        "N": [str(spec.num_layers) for spec in specs],
        "B": [_letters(spec.blocks) for spec in specs],
        "C": [_letters(spec.widths) for spec in specs],
        "F": [_letters(spec.kernel_sizes) for spec in specs],
        "K": [_letters(spec.skip_kernel_sizes) for spec in specs],
        "P": [str(spec.pool_size) for spec in specs],
        "se": [spec.se or "-" for spec in specs],
        "strides": [_letters(spec.strides) for spec in specs],
        "parameters": [f"{result.params:,}" for result in results],
        "M mult-adds": [f"{result.macs / 1e6:,.1f}" for result in results],
        "KiB": [f"{result.memory / 1024:,.0f}" for result in results],
        "predicted %": [
            "" if r.accuracy is None else f"{r.accuracy:.1f} +- {r.uncertainty:.1f}{'*' if r.extrapolates else ' '}"
            for r in results
        ],
        "ms": ["" if result.latency is None else f"{result.latency:.2f}" for result in results],
    }
    if all(spec.strides == (1,) + (2,) * (spec.num_layers - 1) for spec in specs):
        del columns["strides"]
    return {name: cells for name, cells in columns.items() if any(cells)}


def _letters(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else ",".join(map(str, values))
