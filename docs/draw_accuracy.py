"""docs/accuracy.svg: accuracy against parameters, multiply-adds and latency, ours and others'; make_tables.py draws it.

Ours are the measured figures of the table of variants; a variant without weights is left out. The others' are what
their authors publish (benchmarks/peers.toml). Latency is the newest measurement in benchmarks/results: that of int8
files, where ours are shown at their accuracy in int8.
"""

import tomllib
from pathlib import Path

import charts
from benchmark_tables import newest, peers_in_int8
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

import budgetnets
from budgetnets.quantization import read_int8_card
from budgetnets.variants import VARIANTS

ROOT = Path(__file__).parent.parent
OURS, THEIRS = "#1d4ed8", "#9ca3af"
MOST_PARAMS = 5_000_000
NEAR = [((6, 5), "left"), ((6, -6), "left"), ((-6, 5), "right"), ((-6, -6), "right")]
PLACES = [*NEAR, ((0, 10), "center"), ((0, -10), "center"), *(((x, 2.5 * y), side) for (x, y), side in NEAR)]
DOT = 4  # half of a point's side, in pixels


def our_points() -> list[dict]:
    """Each trained variant within the budget, with its costs and its default weights' accuracies."""
    found = []
    for row in (row for row in VARIANTS.values() if row.weights and row.in_budget):
        point = {"name": row.name, "top1": row.weights[0].top1}
        int8 = read_int8_card(row, row.weights[0])
        point |= {"int8_top1": int8.top1} if int8 else {}
        found.append(point | {"params": row.params, "macs": budgetnets.count_macs(row.spec)})
    return found


def their_points() -> list[dict]:
    networks = tomllib.loads((ROOT / "benchmarks" / "peers.toml").read_text())["pytorchcv"]["networks"]
    return [{"name": name, **entry} for name, entry in networks.items() if entry["params"] <= MOST_PARAMS]


def latencies() -> dict[str, float]:
    """Milliseconds at batch 1 on one thread in int8; others' in eager fp32 where a result has no int8 of theirs."""
    result = newest("latency") or {"rows": []}
    theirs = "ONNX Runtime int8" if peers_in_int8(result) else "eager fp32"
    found = {}
    for row in result["rows"]:
        runtime = "ONNX Runtime int8" if row["network"] in VARIANTS else theirs
        if (row["batch"], row["threads"], row["runtime"]) == (1, 1, runtime):
            found[row["network"]] = row["milliseconds"]["median"]
    return found


def draw(axis, shown, key, label, scale, ticks):
    """One panel: a point for each network that has the cost, with its name where no other name or point stands."""
    if key == "milliseconds":  # ours run in int8 there
        shown = shown | {"ours": [point | {"top1": point.get("int8_top1", point["top1"])} for point in shown["ours"]]}
    axis.set_xscale("log")
    groups = [("theirs", THEIRS, "o", "label"), ("ours", OURS, "D", "name")]
    marks = [(p, color, p[text]) for group, color, _, text in groups for p in shown[group] if key in p]
    for group, color, marker, _ in groups:
        dots = [point for point in shown[group] if key in point]
        axis.scatter([p[key] / scale for p in dots], [p["top1"] for p in dots], c=color, marker=marker, zorder=3)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.margins(0.12)
    axis.set_xlabel(label)
    axis.grid(color="#e5e7eb", linewidth=0.6)
    axis.figure.draw_without_rendering()  # where the names come to lie depends on the layout
    places = [axis.transData.transform((point[key] / scale, point["top1"])) for point, _, _ in marks]
    taken = [Bbox([place - DOT, place + DOT]) for place in places]
    for point, color, text in sorted(marks, key=lambda mark: (mark[1] != OURS, -mark[0]["top1"])):  # ours first
        for offset, side in PLACES:
            at = (point[key] / scale, point["top1"])
            style = {"ha": side, "va": "center", "fontsize": 6.5, "color": OURS if color == OURS else "#4b5563"}
            name = axis.annotate(text, at, offset, textcoords="offset points", **style)
            box = name.get_window_extent()
            if box.x1 < axis.bbox.x1 and not any(box.overlaps(other) for other in taken):
                break
            name.remove()
        else:
            continue  # no room: the point stays without a name, the tables have it
        taken.append(box)


def points() -> dict[str, list[dict]]:
    """All that the picture shows."""
    found, milliseconds = {"ours": our_points(), "theirs": their_points()}, latencies()
    for point in (*found["ours"], *found["theirs"]):
        if point["name"] in milliseconds:
            point["milliseconds"] = milliseconds[point["name"]]
    return found


def drawn(shown: dict[str, list[dict]]) -> Figure:
    panels = [
        ("params", "parameters, millions", 1e6, (0.1, 0.2, 0.5, 1, 2, 5)),
        ("macs", "multiply-adds, millions", 1e6, (25, 50, 100, 200, 400, 800)),
    ]
    if any("milliseconds" in point for point in shown["ours"]):
        theirs = (
            "others too, at their fp32 accuracy" if peers_in_int8(newest("latency") or {"rows": []}) else "others eager"
        )
        label = f"milliseconds an image, one core\n(ours int8 in ONNX Runtime, {theirs})"
        panels.append(("milliseconds", label, 1, (0.5, 1, 2, 5, 10, 20, 50)))
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 5), sharey=True, layout="constrained")
    axes[0].set_ylabel("CIFAR-10 top-1, %")
    handles = [
        plt.Line2D([], [], color=color, marker=marker, linestyle="") for color, marker in ((OURS, "D"), (THEIRS, "o"))
    ]
    names = ["budgetnets, measured on the shipped files", "pytorchcv, as published (chosen on the test set)"]
    figure.legend(handles, names, fontsize=7.5, loc="outside upper center", ncols=2, frameon=False)
    for axis, panel in zip(axes, panels, strict=True):
        draw(axis, shown, *panel)
    return figure


def picture(old: str | None) -> str:
    shown = points()
    return charts.picture(old, shown, lambda: drawn(shown))
