"""Where a benchmark ran, and its result as one JSON file named by theme, processor and date."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("torch", "timm", "budgetnets", "onnx", "onnxruntime", "openvino", "pytorchcv", "numpy")


def processor() -> dict:
    """The processor's name, its cores, and which of the instructions that decide the speed it has."""
    cpu = Path("/proc/cpuinfo")
    text = cpu.read_text() if cpu.exists() else ""
    name = re.search(r"^model name\s*: (.*)", text, re.M)
    family = re.search(r"^cpu family\s*: (\d+).*?^model\s*: (\d+)", text, re.M | re.S)
    flags = re.search(r"^flags\s*: (.*)", text, re.M)
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return {
        "name": name[1] if name else platform.processor() or platform.machine(),
        "family": f"{family[1]}/{family[2]}" if family else "",
        "cores": os.cpu_count(),
        "instructions": [flag for flag in known if flags and flag in flags[1].split()],
    }


def versions() -> dict:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command(argv: list[str]) -> str:
    """The command that gives such a result, without where it was written and where the data lay."""
    places = {"--out": [], "--data": ["--data", "DIR"]}
    words, kept = iter(argv[1:]), ["python", f"benchmarks/{Path(argv[0]).name}"]
    for word in words:
        name, is_whole, _ = word.partition("=")
        kept += places.get(name, [word])
        if name in places and not is_whole:
            next(words)
    return shlex.join(kept)


def describe() -> dict:
    """Date, place and state of the code: what a reader needs to judge the figures."""
    failed, commit = subprocess.getstatusoutput(f"git -C '{Path(__file__).parent}' describe --always --dirty")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "gpu": device,
        "versions": versions(),
        "commit": None if failed else commit,
        "command": command(sys.argv),
    }


def save(theme: str, result: dict, folder: Path = FOLDER) -> Path:
    """Write a result and return its file; one of the same theme, hardware and day is replaced."""
    about = describe()
    hardware = about["gpu"] or f"{about['processor']['name']} {about['processor']['family']}"
    slug = re.sub(r"[^a-z0-9]+", "-", hardware.lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{theme}.{slug}.{about['date']}.json"
    path.write_text(json.dumps({"theme": theme, **about, **result}, indent=1) + "\n")
    return path


def spread(values: list[float]) -> dict:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "q1": low, "q3": high}
