"""Claims about the core-hours of docs/reproduction.md: they follow from the newest benchmark on a processor."""

import json
from pathlib import Path

import pytest
import study_logs
from reproduction_page import page as reproduction
from test_study import RECIPES, row, study_of, write_log


def write_speed(folder, hardware, date, tflops, threads=2, gpu=None):
    """Write a training-speed result whose plain loop is so fast, and whose other ways are faster."""
    rows = [{"way": "plain loop", "tflops": tflops}, {"way": "fast path, fp32, compiled", "tflops": 9 * tflops}]
    result = {"date": date, "gpu": gpu, "threads": threads, "model": "resnet9_cifar", "rows": rows}
    result |= {"processor": {"name": hardware, "family": "6/1", "cores": threads, "instructions": []}}
    result |= {"versions": {}, "command": "python benchmarks/training_speed.py", "commit": "abc1234"}
    (folder / f"training-speed.{hardware}.{date}.json").write_text(json.dumps(result))


def test_core_hours_are_those_of_the_images_that_the_benchmark_trained_on_a_second():
    """R1 trains the benchmark's network: its hours follow from images per second, without any count of operations."""
    results = Path(__file__).parent.parent / "benchmarks" / "results"
    found = [json.loads(path.read_text()) for path in results.glob("training-speed.*.json")]
    newest = max((result for result in found if not result["gpu"]), key=lambda result: result["date"])
    (speed,) = (r["images_per_second"]["median"] for r in newest["rows"] if r["way"] == "plain loop")
    page = reproduction(study_logs.read_study())
    assert newest["model"] == RECIPES["R1"]["model"]
    hours = 50_000 * RECIPES["R1"]["epochs"] / speed * newest["threads"] / 3600
    assert row(page, "R1")[3] == f"{hours:,.0f}"
    assert f"Measured on {newest['date']}" in page
    assert newest["processor"]["name"] in page


def test_core_hours_go_by_the_newest_processor_and_what_fits_by_them(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark_tables.RESULTS", tmp_path)
    write_speed(tmp_path, "old", "2026-01-01", 1000.0)
    write_speed(tmp_path, "cpu", "2026-01-02", 1.0)
    write_speed(tmp_path, "gpu", "2026-01-03", 1000.0, gpu="a GPU")
    page = reproduction(study_of(tmp_path))
    hours = {name: float(row(page, name)[3].replace(",", "")) for name in RECIPES if "like" not in RECIPES[name]}
    # 6 operations for each of 253.4 million multiply-adds, 100 epochs of 50,000 images, at 1 TFLOP/s on 2 cores
    assert hours["R1"] == pytest.approx(6 * 253.4e6 * 5e6 / 1e12 * 2 / 3600, abs=0.06)
    assert hours["R2"] == pytest.approx(6 * 798.7e6 * 1.5e6 / 1e12 * 2 / 3600, abs=0.06)
    assert "at 1000 GFLOP/s on 2 cores" in " ".join(page.split())
    (fits,) = (line for line in page.splitlines() if line.startswith("By this estimate, 10 hours"))
    assert all((f"`{name}`" in fits) == (hour <= 10) for name, hour in hours.items())
    assert "`R3-152`" not in fits
    named = fits.count("`") // 2
    assert f"enough for {named} of all {len(RECIPES)} runs" in fits
    assert f"The others that are not run yet, {len(RECIPES) - named}, wait for a GPU." in fits


def test_a_run_with_a_log_waits_for_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark_tables.RESULTS", tmp_path)
    write_speed(tmp_path, "slow", "2026-01-01", 0.001)
    assert f"are not run yet, {len(RECIPES)}, wait for a GPU" in reproduction(study_of(tmp_path))
    write_log(tmp_path / "logs", "R2", [88.0])
    page = reproduction(study_of(tmp_path))
    assert "enough for none of all" in page
    assert f"are not run yet, {len(RECIPES) - 1}, wait for a GPU" in page


def test_without_a_measured_speed_no_hours_are_made_up(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark_tables.RESULTS", tmp_path)
    write_speed(tmp_path, "gpu", "2026-01-03", 1000.0, gpu="a GPU")
    with pytest.raises(ValueError, match=r"run benchmarks/training_speed\.py"):
        reproduction(study_of(tmp_path))
