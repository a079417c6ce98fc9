"""Where a benchmark ran, and its result as JSON, Markdown and a picture, named by theme, processor and date."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import charts
import tables
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


def file_name(result: dict) -> str:
    hardware = result["gpu"] or f"{result['processor']['name']} {result['processor']['family']}"
    slug = re.sub(r"[^a-z0-9]+", "-", hardware.lower()).strip("-")
    return f"{result['theme']}.{slug}.{result['date']}.json"


def save(theme: str, result: dict, folder: Path = FOLDER) -> Path:
    """Write a result with its tables and picture, and return its file; one of the same hardware and day is replaced."""
    result = {"theme": theme, **describe(), **result}
    folder.mkdir(parents=True, exist_ok=True)
    if str(result["commit"]).endswith("-dirty"):
        print("measured with changes that are not committed: nobody can measure it again", file=sys.stderr)
    path = folder / file_name(result)
    path.write_text(json.dumps(result, indent=1) + "\n")
    for beside, make in shown_beside(path).items():
        beside.write_text(make(None), encoding="utf-8")
    return path


def shown_beside(path: Path) -> dict[Path, Callable[[str | None], str]]:
    """The files beside a result that show it, and what makes their text, given the old one."""
    result, picture = json.loads(path.read_text()), path.with_suffix(".svg")
    return {
        path.with_suffix(".md"): lambda old: tables.page(result, picture),
        picture: lambda old: charts.chart(old, result),
    }
