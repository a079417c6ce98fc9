"""Draw docs/family.svg, the architecture of the family: `python docs/draw_family.py`."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

PLAIN, STAGE, SKIP, EDGE = "#f3f4f6", "#dbeafe", "#fef3c7", "#374151"
FAINT = "#6b7280"


def box(axis, x, y, width, height, text, color=PLAIN, size=8, dashed=False):
    """Draw a labelled box, its left edge at x and its middle at y."""
    axis.add_patch(
        FancyBboxPatch(
            (x, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=color, edgecolor=EDGE, linewidth=1, linestyle="--" if dashed else "-",
        )
    )  # fmt: skip
    axis.text(x + width / 2, y, text, ha="center", va="center", fontsize=size, color="black", linespacing=1.35)


def arrow(axis, start, end):
    axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": EDGE, "linewidth": 1, "shrinkA": 0,
                                              "shrinkB": 0})  # fmt: skip


def line(axis, points):
    axis.plot(*zip(*points, strict=True), color=EDGE, linewidth=1, solid_joinstyle="round")


def draw_network(axis, y):
    """The whole network, left to right, with the map's size under each step."""
    steps = [
        (1.0, "image", PLAIN, "in_chans\n32x32"),
        (1.35, "stem\n3x3 conv,\nnorm, activation", PLAIN, "C[0]\n32x32"),
        (1.35, "stage 1\nB[0] blocks\nstride 1", STAGE, "C[0]\n32x32"),
        (1.35, "stage 2\nB[1] blocks\nstride 2", STAGE, "C[1]\n16x16"),
        (0.45, "...", "white", ""),
        (1.35, "stage N\nB[N-1] blocks\nstride 2", STAGE, "C[N-1]\nsxs, s = 32 / 2$^{N-1}$"),
        (1.2, "average pool\nPxP, stride P", PLAIN, "C[N-1]\n(s/P)x(s/P)"),
        (1.2, "flatten,\nlinear layer", PLAIN, "num_classes"),
    ]
    x, gap = 0.15, 0.28
    for i, (width, text, color, shape) in enumerate(steps):
        if text == "...":
            axis.text(x + width / 2, y, text, ha="center", va="center", fontsize=12)
        else:
            box(axis, x, y, width, 0.95, text, color)
        axis.text(x + width / 2, y - 0.62, shape, ha="center", va="top", fontsize=7.5, color=FAINT, linespacing=1.3)
        if i:
            arrow(axis, (x - gap, y), (x, y))
        x += width + gap


def draw_block(axis, y, left):
    """One basic block: the main branch above, the skip below."""
    steps = [
        (1.45, "FxF conv, stride\nnorm, activation", STAGE, False),
        (1.1, "FxF conv\nnorm", STAGE, False),
        (1.95, "squeeze-and-excitation\nwith se=\"block\"", PLAIN, True),
    ]  # fmt: skip
    x, gap = left, 0.35
    fork = x - 0.3
    axis.text(fork - 0.35, y, "block's\ninput", ha="right", va="center", fontsize=8)
    line(axis, [(fork - 0.28, y), (fork, y)])
    for width, text, color, dashed in steps:
        arrow(axis, (x - (0.3 if x == left else gap), y), (x, y))
        box(axis, x, y, width, 0.8, text, color, dashed=dashed)
        x += width + gap
    join = x + 0.05
    arrow(axis, (x - gap, y), (join - 0.15, y))
    axis.text(join, y, "+", ha="center", va="center", fontsize=12,
              bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": EDGE})  # fmt: skip
    skip_y, middle, width = y - 1.15, (fork + join) / 2, 4.3
    line(axis, [(fork, y), (fork, skip_y)])
    arrow(axis, (fork, skip_y), (middle - width / 2, skip_y))
    box(axis, middle - width / 2, skip_y, width, 0.7,
        "skip: KxK conv, stride, norm where the shape changes;\nelse the identity", SKIP)  # fmt: skip
    line(axis, [(middle + width / 2, skip_y), (join, skip_y)])
    arrow(axis, (join, skip_y), (join, y - 0.17))
    arrow(axis, (join + 0.17, y), (join + 0.5, y))
    box(axis, join + 0.5, y, 0.95, 0.8, "activation", PLAIN)
    arrow(axis, (join + 1.45, y), (join + 1.85, y))
    axis.text(join + 1.93, y, "block's\noutput", ha="left", va="center", fontsize=8)


def main():
    plt.rcParams.update({"svg.hashsalt": "budgetnets", "font.family": "DejaVu Sans"})  # the same file on every run
    figure, axis = plt.subplots(figsize=(11.6, 4.6))
    axis.set_xlim(0, 11.6)
    axis.set_ylim(0, 4.6)
    axis.set_aspect("equal")
    axis.axis("off")
    draw_network(axis, 3.9)
    left, right, top = 0.15, 11.2, 2.55
    axis.add_patch(
        FancyBboxPatch((left, 0.1), right - left, top - 0.1, boxstyle="round,pad=0,rounding_size=0.1",
                       facecolor="none", edgecolor=FAINT, linewidth=0.8, linestyle=":")
    )  # fmt: skip
    axis.text(left + 0.15, top - 0.13, "the first block of a stage", ha="left", va="top", fontsize=8.5, style="italic")
    draw_block(axis, 1.75, 2.1)
    path = Path(__file__).with_name("family.svg")
    figure.savefig(path, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


if __name__ == "__main__":
    main()
