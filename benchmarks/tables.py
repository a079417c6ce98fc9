"""A benchmark's result as Markdown tables: those of docs/benchmarks.md, and of the file beside each result."""

from pathlib import Path

from spreads import paired

from budgetnets.quantization import read_int8_card
from budgetnets.variants import VARIANTS, find_weights

TITLES = {
    "latency": "Latency on a processor",
    "footprint": "Footprint",
    "startup": "Start",
    "training-speed": "Training",
    "counting": "Counting",
}


def page(result: dict, picture: Path) -> str:
    """All of one result as a page of its own, which shows a picture that lies beside it."""
    title = TITLES[result["theme"]]
    parts = ["<!-- Generated from the JSON file beside it, by its benchmark and by docs/make_tables.py. -->"]
    parts += [f"# {title}, {result['date']}", place(result), f"![{title}]({picture.name})", *sections(result, "##")]
    return "\n\n".join(parts) + "\n"


def place(result: dict) -> str:
    """Where and with what a result was measured, in a sentence."""
    cpu, used = result["processor"], result["versions"]
    instructions = ", ".join(cpu["instructions"]) or "none of AVX2, AVX-512, AMX"
    hardware = result["gpu"] or f"{cpu['name']} (family/model {cpu['family']}), {cpu['cores']} cores, {instructions}"
    shown = ("python", "torch", "onnxruntime", "openvino", "pytorchcv")
    versions = ", ".join(f"{name} {used[name]}" for name in shown if name in used)
    return f"Measured on {result['date']} by `{result['command']}`: {hardware}; {versions}; commit {result['commit']}."


def table(header: tuple[str, ...], rows: list[tuple], right: int) -> str:
    """A Markdown table whose last `right` columns are figures."""
    rule = "|" + "---|" * (len(header) - right) + "---:|" * right
    return "\n".join([f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def sections(result: dict, level: str) -> list[str]:
    """A result's tables, each under a heading of that level where there are several."""
    if result["theme"] == "training-speed" and result.get("others"):  # not measured before 2026-11-24
        return [training_table(result), f"{level} Other networks", other_networks_table(result)]
    if result["theme"] != "latency":
        return [TABLES[result["theme"]](result)]
    parts = []
    for threads in sorted({row["threads"] for row in result["rows"]}):
        parts += [f"{level} {threads} thread{'s' * (threads > 1)}", latency_table(result, threads)]
    return [*parts, f"{level} Files", files_table(result)]


def accuracy(row: dict) -> str:
    """Ours as the cards have it today, since the time that a network takes does not depend on its weights' values."""
    int8 = row["runtime"].endswith("int8")
    if row["network"] not in VARIANTS:
        published = None if int8 else row["published_top1"]
        return "" if published is None else f"{published:.2f} (published)"
    weights = find_weights(row["network"])
    if weights and int8:  # its accuracy is known in ONNX Runtime alone
        weights = read_int8_card(VARIANTS[row["network"]], weights) if row["runtime"].startswith("ONNX") else None
    return f"{weights.top1:.2f}" if weights else ""


def latency_table(result: dict, threads: int) -> str:
    """A row for each contender: name, runtime, parameters, accuracy, then milliseconds and ratio for each batch."""
    entries = [row for row in result["rows"] if row["threads"] == threads]
    batches = sorted({row["batch"] for row in entries})
    found = {(row["network"], row["runtime"], row["batch"]): row for row in entries}
    rows = []
    for network, runtime in dict.fromkeys((row["network"], row["runtime"]) for row in entries):
        first = found[network, runtime, batches[0]]
        cells: list[str] = []
        for batch in batches:
            row = found[network, runtime, batch]
            cells += [f"{row['milliseconds']['median']:.2f}", f"{row['times_faster_than_reference']['median']:.2f}"]
        rows.append((f"`{network}`", runtime, f"{first['params'] / 1e6:.2f}", accuracy(first), *cells))
    columns = [cell for batch in batches for cell in (f"batch {batch}, ms", f"times faster, batch {batch}")]
    header = ("Network", "Runtime", "Parameters (M)", "Top-1 %", *columns)
    return table(header, rows, right=2 + len(columns))


def files_table(result: dict) -> str:
    files = [(f"`{name}`", f"{size / 1e6:.2f}") for name, size in result["files"].items()]
    return table(("File", "MB"), files, right=1)


def ratio(row: dict, slower: dict | None) -> dict[str, float] | None:
    """How many times faster one row of a result is than another, round by round where the rounds were kept."""
    if slower is None:
        return None
    if "rounds" not in row:
        return {"median": slower["milliseconds"]["median"] / row["milliseconds"]["median"]}
    return paired(slower["rounds"], row["rounds"])


def footprint_table(result: dict) -> str:
    batches = [run["batch"] for run in result["rows"][0]["runs"]]
    columns = [cell for batch in batches for cell in (f"batch {batch}, ms", f"batch {batch}, peak MiB")]
    rows = []
    for row in result["rows"]:
        cells = [
            cell
            for run in row["runs"]
            for cell in (f"{run['milliseconds']['median']:.2f}", f"{run['peak_bytes'] / 2**20:.0f}")
        ]
        rows.append((f"`{row['network']}`", row["precision"], f"{row['file_bytes'] / 1e6:.2f}", *cells))
    return table(("Network", "Precision", "File, MB", *columns), rows, right=1 + len(columns))


def startup_table(result: dict) -> str:
    parts = ("import_timm", "import_budgetnets", "first_creation", "later_creation")
    rows = [(f"`{row['network']}`", *(f"{row[part]['median']:.0f}" for part in parts)) for row in result["rows"]]
    header = ("Network", "`import timm`, ms", "`import budgetnets` after it", "First creation", "Later ones")
    return table(header, rows, right=4)


def training_table(result: dict) -> str:
    rows = [
        (
            row["way"],
            f"{row['images_per_second']['median']:,.0f}",
            f"{row['times_faster']['median']:.2f}",
            f"{row['tflops']:.3g}" + (f" ({row['share_of_peak']:.0%})" if row["share_of_peak"] else ""),
        )
        for row in result["rows"]
    ]
    return table(("Way", "Images/s", "Times faster", "TFLOP/s (share of the peak)"), rows, right=3)


def other_networks_table(result: dict) -> str:
    rows = [
        (
            f"`{row['network']}`",
            *(f"{row[way]['median']:,.0f}" for way in ("plain", "fast")),
            with_quartiles(row["times_faster"], ".2f"),
        )
        for row in result["others"]
    ]
    quickest = result["quickest"][:1].upper() + result["quickest"][1:]
    return table(("Network", "Plain loop, images/s", quickest, "Times faster"), rows, right=3)


def counting_table(result: dict) -> str:
    faster = result["times_faster"]
    rows = [
        (f"`{name}`", f"{value:,.1f}", with_quartiles(faster[name], ",.0f") if name in faster else "1")
        for name, value in result["microseconds"].items()
    ]
    return table(("What", "Microseconds", "Times faster"), rows, right=2)


def with_quartiles(found: dict[str, float], how: str) -> str:
    """The median of ratios, with their quartiles where they are known."""
    spread = f" ({found['q1']:{how}} to {found['q3']:{how}})" if "q1" in found else ""
    return f"{found['median']:{how}}{spread}"


TABLES = {
    "footprint": footprint_table,
    "startup": startup_table,
    "training-speed": training_table,
    "counting": counting_table,
}
