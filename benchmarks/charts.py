"""A result's main figure as bars, and matplotlib's pictures as SVG files that are the same on every run."""

import html
import io
import json
from collections.abc import Callable

import matplotlib
from spreads import spread

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

plt.rcParams.update({"svg.hashsalt": "budgetnets", "font.family": "DejaVu Sans"})
COLORS = ("#1d4ed8", "#93c5fd", "#9ca3af")
RUNTIMES = ("eager fp32", "ONNX Runtime fp32", "ONNX Runtime int8")  # of those measured, as the picture has them
Bars = dict[str, dict[str, dict[str, float]]]  # by series, then by name: median and quartiles


def picture(old: str | None, shown: object, draw: Callable[[], Figure]) -> str:
    """The picture as SVG, drawn anew only where the old one shows something else.

    What it shows is in its description too, as its bytes depend on matplotlib's version.
    """
    description = json.dumps(shown)
    if old and description in html.unescape(old):
        return old
    file, figure = io.StringIO(), draw()
    figure.savefig(file, format="svg", facecolor="white", metadata={"Date": None, "Description": description})
    plt.close(figure)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def chart(old: str | None, result: dict) -> str:
    """The SVG of a result's main figure."""
    label, bars = FIGURES[result["theme"]](result)
    return picture(old, [label, bars], lambda: bar_chart(label, bars))


def bar_chart(label: str, bars: Bars) -> Figure:
    """A group of horizontal bars for each name, one of each series, with the quartiles as whiskers."""
    names = list(dict.fromkeys(name for series in bars.values() for name in series))
    height = 0.8 / len(bars)  # of a bar; neighbouring names are 1 apart
    figure, axis = plt.subplots(figsize=(8, 1.1 + 0.2 * len(names) * (len(bars) + 0.6)), layout="constrained")
    for i, (series, found) in enumerate(bars.items()):
        at = [names.index(name) + (i - (len(bars) - 1) / 2) * height for name in found]
        medians = [value["median"] for value in found.values()]
        sides = [[value["median"] - value["q1"], value["q3"] - value["median"]] for value in found.values()]
        whiskers = {"xerr": list(zip(*sides, strict=True)), "ecolor": "#374151", "error_kw": {"linewidth": 0.8}}
        drawn = axis.barh(at, medians, height, label=series, color=COLORS[i], **whiskers)
        figures = [f"{median:#.3g}" if median < 100 else f"{median:,.0f}" for median in medians]
        axis.bar_label(drawn, figures, padding=3, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()  # the first name on top
    axis.set_xlabel(label)
    axis.margins(x=0.1, y=0.01)
    axis.spines[["top", "right"]].set_visible(False)
    if len(bars) > 1:
        figure.legend(loc="outside upper center", ncols=len(bars), frameon=False, fontsize=8)
    return figure


def latency_figure(result: dict) -> tuple[str, Bars]:
    """The label of the axis, and the bars: the smallest batch on the fewest threads."""
    batch, threads = (min(row[key] for row in result["rows"]) for key in ("batch", "threads"))
    bars: Bars = {}
    for row in result["rows"]:
        if (row["batch"], row["threads"]) == (batch, threads) and row["runtime"] in RUNTIMES:
            bars.setdefault(row["runtime"], {})[row["network"]] = row["milliseconds"]
    return f"milliseconds, batch {batch}, {threads} thread{'s' * (threads > 1)}", bars


def footprint_figure(result: dict) -> tuple[str, Bars]:
    bars: Bars = {}
    for row in result["rows"]:
        bars.setdefault(row["precision"], {})[row["network"]] = spread([row["runs"][0]["peak_bytes"] / 2**20])
    return f"peak memory in MiB, batch {result['rows'][0]['runs'][0]['batch']}", bars


def startup_figure(result: dict) -> tuple[str, Bars]:
    parts = ("import_budgetnets", "first_creation", "later_creation")  # timm's import would dwarf them
    bars = {part.replace("_", " "): {row["network"]: row[part] for row in result["rows"]} for part in parts}
    return "milliseconds", bars


def training_figure(result: dict) -> tuple[str, Bars]:
    return "images a second", {"speed": {row["way"]: row["images_per_second"] for row in result["rows"]}}


def counting_figure(result: dict) -> tuple[str, Bars]:
    return "times faster than building the network", {"ratio": result["times_faster"]}


FIGURES = {
    "latency": latency_figure,
    "footprint": footprint_figure,
    "startup": startup_figure,
    "training-speed": training_figure,
    "counting": counting_figure,
}
