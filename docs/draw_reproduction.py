"""Draw docs/reproduction.svg: the test accuracy of the study's runs by epoch, a panel for each report.

python docs/draw_reproduction.py

The curves are those of docs/logs/reports, the first seed of each run; a dotted line is the reported figure. Without a
log there is nothing to draw.
"""

import argparse
import sys
from pathlib import Path

import matplotlib
import study_logs

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from reproduction_page import CURVES


def panels(study: study_logs.Study) -> dict[str, list[str]]:
    """The runs that have a curve, by report."""
    found: dict[str, list[str]] = {}
    for name in study.recipes:
        if any(run.curve for run in study.runs.get(name, [])):
            found.setdefault(name.split("-")[0], []).append(name)
    return found


def draw(study: study_logs.Study, path: Path) -> None:
    """Write the picture, the same bytes for the same logs."""
    plt.rcParams.update({"svg.hashsalt": "budgetnets", "font.family": "DejaVu Sans"})
    shown = panels(study)
    figure, axes = plt.subplots(
        1, len(shown), figsize=(5 * len(shown), 4.2), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (report, names) in zip(axes[0], shown.items(), strict=True):
        for name in names:
            curve = study.runs[name][0].curve
            (line,) = axis.plot(list(curve), list(curve.values()), linewidth=1, label=name)
            if name in study.reported:
                axis.axhline(study.reported[name], color=line.get_color(), linestyle=":", linewidth=1)
        axis.set_title(report)
        axis.set_xlabel("epoch")
        axis.grid(color="#e5e7eb", linewidth=0.6)
        axis.legend(fontsize=7, loc="lower right")
    axes[0][0].set_ylabel("CIFAR-10 top-1 on the test set, %")
    figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
    plt.close(figure)
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=CURVES, help="the picture")
    out = parser.parse_args().out
    study = study_logs.read_study()
    if not panels(study):
        sys.exit(f"{study_logs.LOGS} holds no log with a curve; there is nothing to draw")
    draw(study, out)


if __name__ == "__main__":
    main()
