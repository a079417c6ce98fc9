"""Draw docs/accuracy.svg: accuracy against parameters, multiply-adds and latency, ours and others'.

python docs/draw_accuracy.py

Ours are the measured figures of the table of variants; a variant without weights is left out. The others' are what
their authors publish (benchmarks/peers.toml). Latency is the newest measurement in benchmarks/results.
"""

import tomllib
from pathlib import Path

import matplotlib
from benchmark_tables import newest

import budgetnets
from budgetnets.variants import VARIANTS

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parent.parent
OURS, THEIRS = "#1d4ed8", "#9ca3af"
MOST_PARAMS = 5_000_000


def our_points() -> list[dict]:
    """Each trained variant within the budget, with its costs and its default weights' accuracy."""
    return [
        {"name": row.name, "top1": row.weights[0].top1, "params": row.params, "macs": budgetnets.count_macs(row.spec)}
        for row in VARIANTS.values()
        if row.weights and row.in_budget
    ]


def their_points() -> list[dict]:
    networks = tomllib.loads((ROOT / "benchmarks" / "peers.toml").read_text())["pytorchcv"]["networks"]
    return [{"name": name, **entry} for name, entry in networks.items() if entry["params"] <= MOST_PARAMS]


def latencies() -> dict[str, float]:
    """Milliseconds at batch 1 on one thread: ours in int8, others' as they come, in eager fp32."""
    result = newest("latency")
    rows = [] if result is None else [row for row in result["rows"] if (row["batch"], row["threads"]) == (1, 1)]
    found = {}
    for row in rows:
        if row["runtime"] == "ONNX Runtime int8" or row["network"] not in VARIANTS:
            found[row["network"]] = row["milliseconds"]["median"]
    return found


def draw(axis, ours, theirs, key, label, scale):
    for points, color, marker, text in ((theirs, THEIRS, "o", "label"), (ours, OURS, "D", "name")):
        shown = [point for point in points if key in point]
        axis.scatter([p[key] / scale for p in shown], [p["top1"] for p in shown], c=color, marker=marker, zorder=3)
        for p in shown:
            axis.annotate(p[text], (p[key] / scale, p["top1"]), xytext=(4, 4), textcoords="offset points",
                          fontsize=6.5, color=color if text == "name" else "#4b5563")  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlabel(label)
    axis.grid(color="#e5e7eb", linewidth=0.6)


def main() -> None:
    plt.rcParams.update({"svg.hashsalt": "budgetnets", "font.family": "DejaVu Sans"})  # the same file on every run
    ours, theirs, milliseconds = our_points(), their_points(), latencies()
    for point in (*ours, *theirs):
        if point["name"] in milliseconds:
            point["milliseconds"] = milliseconds[point["name"]]
    panels = [("params", "parameters, millions", 1e6), ("macs", "multiply-adds, millions", 1e6)]
    if any("milliseconds" in point for point in ours):
        panels.append(("milliseconds", "milliseconds an image, one core\n(ours int8 in ONNX Runtime, others eager)", 1))
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 4.2), sharey=True, layout="constrained")
    for axis, (key, label, scale) in zip(axes, panels, strict=True):
        draw(axis, ours, theirs, key, label, scale)
    axes[0].set_ylabel("CIFAR-10 top-1, %")
    handles = [
        plt.Line2D([], [], color=color, marker=marker, linestyle="") for color, marker in ((OURS, "D"), (THEIRS, "o"))
    ]
    axes[0].legend(handles, ["budgetnets, measured", "pytorchcv, published"], fontsize=7, loc="lower right")
    path = Path(__file__).with_name("accuracy.svg")
    figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


if __name__ == "__main__":
    main()
