"""Each benchmark runs as its page says, and its result becomes that page's table."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import benchmark_tables
import charts
import draw_accuracy
import latency
import pytest
import results
import tables
import torch
import train
import training_speed
from safetensors.torch import load_file

from budgetnets.variants import VARIANTS

ROOT = Path(__file__).parent.parent


def run(script, out, *arguments):
    """Run a benchmark into a folder and return its result, whose tables and picture lie beside it."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.json")
    assert f"wrote {path}" in done.stdout
    result, picture = json.loads(path.read_text()), path.with_suffix(".svg")
    assert path.with_suffix(".md").read_text() == tables.page(result, picture)
    assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    return result


@pytest.fixture
def page_of(monkeypatch, tmp_path):
    """The page made of the results in the test's folder alone."""
    monkeypatch.setattr(benchmark_tables, "RESULTS", tmp_path)
    return benchmark_tables.page


@pytest.mark.parametrize("places", [["--data", "/my", "--out", "/mine"], ["--data=/my", "--out=/mine"]])
def test_a_result_names_its_command_but_no_place_on_the_machine(places):
    given = ["/home/me/benchmarks/latency.py", *places, "--peers", "", "--rounds", "5"]
    assert results.command(given) == "python benchmarks/latency.py --data DIR --peers '' --rounds 5"


def test_without_results_the_page_says_so(page_of):
    assert "Nothing was measured yet." in page_of()
    assert benchmark_tables.readme_section() == "Not measured yet."


def test_counting_is_hundreds_of_times_faster_than_building(tmp_path, page_of):
    result = run("counting.py", tmp_path, "--specs", "300")
    for times in result["times_faster"].values():
        assert 100 < times["q1"] <= times["median"] <= times["q3"]  # a thousand on a quiet machine
    assert "| `count_params` |" in page_of()
    assert result["versions"]["torch"] in page_of()


@pytest.mark.slow
def test_latency_is_measured_in_every_runtime(tmp_path, page_of):
    once = ["--models", "resnet9_cifar", "--peers", "mobilenetv3_small_100", "--batches", "1", "--threads", "1"]
    result = run("latency.py", tmp_path, *once, "--rounds", "2")
    runtimes = {row["runtime"] for row in result["rows"]}
    assert {"eager fp32", "compiled fp32", "ONNX Runtime int8", "OpenVINO int8"} <= runtimes
    reference = next(row for row in result["rows"] if row["runtime"] == "eager fp32")
    assert reference["times_faster_than_reference"]["median"] == 1
    assert "| `resnet9_cifar` | ONNX Runtime int8 |" in page_of()
    assert "| `mobilenetv3_small_100` | ONNX Runtime int8 | 1.53 |  |" in page_of()  # its time, and no accuracy
    assert all(len(row["rounds"]) == 2 for row in result["rows"])
    lines = benchmark_tables.readme_section().splitlines()
    (line,) = (line for line in lines if line.startswith("| `resnet9_cifar` |"))
    ours = [row for row in result["rows"] if row["network"] == "resnet9_cifar"]
    shown = {row["runtime"]: f"{row['milliseconds']['median']:.2f}" for row in ours}
    assert line.endswith(f"| {shown['eager fp32']} | {shown['ONNX Runtime int8']} |")


def test_no_peer_that_might_be_ahead_of_ours_is_left_out_of_the_latencies():
    best_of_ours = max(card.top1 for row in VARIANTS.values() for card in row.weights)
    ahead = {name for name, peer in latency.PEERS.items() if peer["top1"] >= min(96, best_of_ours)}
    assert ahead <= set(latency.MEASURED_PEERS)


@pytest.mark.slow
def test_training_speed_is_measured_beside_the_plain_loop(tmp_path, page_of, cifar10):
    once = ["--data", cifar10, "--model", "resnet18_slim_cifar", "--batch-size", "32", "--steps", "1", "--rounds", "2"]
    result = run("training_speed.py", tmp_path, *once, "--also", "resnet18_slim_cifar", "budgetnet_100k_cifar")
    assert result["rows"][0]["times_faster"]["median"] == 1
    (other,) = result["others"]
    assert other["times_faster"]["median"] > 0
    assert f"| `budgetnet_100k_cifar` | {other['plain']['median']:,.0f} | {other['fast']['median']:,.0f} |" in page_of()
    assert all(row["images_per_second"]["median"] > 0 for row in result["rows"])
    assert "| plain loop |" in page_of()
    assert "compiled, 16 pixels |" in page_of()
    assert "compiled, SAM |" in page_of()


@pytest.mark.parametrize("more", [[], training_speed.SAM], ids=["plain", "SAM"])
def test_the_fast_path_that_is_timed_takes_the_steps_of_train_py(tmp_path, train_in_process, more):
    words = ["--fast", "--data", "fake", "--limit", "96", "--batch-size", "32", "--epochs", "1", "--cpu"]
    words += ["--model", "budgetnet_100k_cifar", "--out", str(tmp_path), *more]
    train.main(words)
    options, device = train.parse_args(words), torch.device("cpu")
    loader = training_speed.fast_loader(options, device)
    way = training_speed.FastPath(options, loader, device, 32)
    for _ in range(len(loader)):
        way.step()
    trained, timed = load_file(tmp_path / "model.safetensors"), way.ema.module.state_dict()
    assert trained.keys() == timed.keys()
    assert all(torch.equal(tensor, timed[name]) for name, tensor in trained.items())


def test_the_aim_of_training_is_named_with_what_was_reached(tmp_path, page_of):
    def write(name, gpu, times, **more):
        rows = [{"way": way, "times_faster": {"median": value}} for way, value in times.items()]
        result = {
            "processor": {"name": "Zen", "cores": 2, "instructions": ["avx2", "avx512f"]},
            "gpu": gpu,
            "rows": rows,
            **more,
        }
        (tmp_path / f"training-speed.{name}.2026-01-02.json").write_text(json.dumps(result))

    def aim():
        return " ".join(benchmark_tables.training_aim().split())

    fast = "fast path, fp32, compiled"
    write("zen", None, {"plain loop": 1.0, fast: 1.42, f"{fast}, 16 pixels": 4.4})
    assert (
        "Reached so far: 1.4 times, 4.4 at 16 pixels (Zen with avx512f, 2 cores); an H200 was not measured yet."
        in aim()
    )
    write("h200", "NVIDIA H200", {"plain loop": 1.0, fast: 12.0})
    assert "12.0 times (NVIDIA H200)" in aim()
    assert "not measured" not in aim()
    others = [{"network": "a net", "times_faster": {"median": median}} for median in (2.9, 3.6)]
    write("zen", None, {"plain loop": 1.0, fast: 1.42}, others=others)
    assert (
        "With 1 of the 2 other networks it is 3 times or more (Zen with avx512f, 2 cores; 2.9 to 3.6 times)." in aim()
    )


def test_the_page_has_the_newest_training_speed_on_a_processor_and_on_a_gpu(tmp_path, page_of):
    for gpu, date, speed, batch_size in ((None, 2, 111, 96), (None, 3, 222, 128), ("NVIDIA H200", 1, 33_333, 512)):
        cpu = {"name": "Zen", "family": "26/2", "cores": 2, "instructions": []}
        row = {"way": "plain loop", "images_per_second": {"median": speed}, "times_faster": {"median": 1}}
        row |= {"tflops": 1, "share_of_peak": None}
        result = {"theme": "training-speed", "processor": cpu, "gpu": gpu, "date": f"2026-01-0{date}", "versions": {}}
        result |= dict.fromkeys(("command", "commit", "model", "fast_path"), "")
        result |= {"batch_size": batch_size, "rows": [row], "others": []}
        (tmp_path / results.file_name(result)).write_text(json.dumps(result))
    page = page_of()
    assert "batches of 128 (Zen, 2 cores) and 512 (NVIDIA H200)" in " ".join(page.split())
    assert "| plain loop | 222 |" in page
    assert "| plain loop | 33,333 |" in page
    assert "| plain loop | 111 |" not in page
    assert "Other networks" not in page


def test_a_way_that_the_device_has_not_is_refused_with_those_that_it_has(monkeypatch, capsys):
    words = ["training_speed.py", "--data", "fake", "--ways", "fast path, fp8"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        training_speed.main()
    message = capsys.readouterr().err
    assert "--ways ['fast path, fp8']: this device has 'fast path, " in message
    assert "16 pixels'" in message


@pytest.mark.slow
def test_a_footprint_is_measured_in_a_process_of_its_own(tmp_path, page_of):
    result = run("footprint.py", tmp_path, "--models", "seresnet20_cifar", "--batches", "1", "64", "--rounds", "2")
    fp32, int8 = result["rows"]
    assert int8["file_bytes"] < 0.4 * fp32["file_bytes"]
    one, many = (run["peak_bytes"] for run in fp32["runs"])
    assert fp32["file_bytes"] < one < many < 500 * 2**20
    assert "| `seresnet20_cifar` | int8 |" in page_of()


@pytest.mark.slow
def test_the_start_is_measured_beside_timms(tmp_path, page_of):
    result = run("startup.py", tmp_path, "--models", "resnet9_cifar", "--rounds", "2", "--creations", "3")
    (row,) = result["rows"]
    assert 0 < row["import_budgetnets"]["median"] < row["import_timm"]["median"] / 4
    assert 0 < row["later_creation"]["median"] < row["import_timm"]["median"]
    assert "| `resnet9_cifar` |" in page_of()


def test_the_newest_result_of_a_theme_counts_whatever_the_machine(tmp_path, page_of):
    for name, value in (("a.zen.2026-01-02", 1), ("a.arm.2026-02-01", 2), ("b.zen.2027-01-01", 3)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    assert benchmark_tables.newest("a") == 2
    assert benchmark_tables.newest("c") is None


def test_each_processor_counts_with_its_newest_result_and_the_newest_comes_last(tmp_path, page_of):
    for name, value in (("a.zen.2026-01-02", 1), ("a.zen.2026-02-01", 2), ("a.arm.2026-01-09", 3)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    assert benchmark_tables.newest_of_each_processor("a") == [3, 2]


def test_int8_is_compared_on_each_processor_with_what_was_measured_there():
    def measured(processor, times):
        rows = [
            {"network": name, "runtime": runtime, "batch": 1, "threads": 1, "milliseconds": {"median": time}}
            for (name, runtime), time in times.items()
        ]
        return {"processor": {"name": processor, "instructions": ["avx2"]}, "rows": rows}

    own = {("resnet9_cifar", "eager fp32"): 8.0, ("resnet9_cifar", "ONNX Runtime int8"): 2.0}
    peer = {("pyramidnet110_a84_cifar10", "eager fp32"): 50.0}
    theirs = peer | {("pyramidnet110_a84_cifar10", "ONNX Runtime int8"): 9.0}
    found = benchmark_tables.int8_table([measured("zen", own), measured("arm", own | theirs)])
    assert "| `resnet9_cifar` | zen (avx2) | 2.00 | 4.0 |  |  |" in found
    assert "| `resnet9_cifar` | arm (avx2) | 2.00 | 4.0 |  | 25.0 |" in found
    assert len(found.splitlines()) == 4  # of others' int8 files there is no row


def test_ratios_are_those_of_rounds_and_not_of_medians():
    # One slow round of three, which slows both alike, and another that only the faster one meets.
    fast = {"rounds": [1.0, 10.0, 4.0], "milliseconds": {"median": 4.0}}
    slow = {"rounds": [8.0, 80.0, 8.0], "milliseconds": {"median": 8.0}}
    assert tables.with_quartiles(tables.ratio(fast, slow), ".1f") == "8.0 (5.0 to 8.0)"


def test_int8_meets_its_aims_where_it_meets_all_three():
    def measured(own, plain, peer):
        eager = {"resnet9_cifar": own, "resnet18_cifar": plain, "pyramidnet110_a84_cifar10": peer}
        times = {(name, "eager fp32"): ms for name, ms in eager.items()} | {("resnet9_cifar", "ONNX Runtime int8"): 1.0}
        rows = [
            {"network": network, "runtime": runtime, "batch": 1, "threads": 1, "milliseconds": {"median": ms}}
            for (network, runtime), ms in times.items()
        ]
        return {"processor": {"name": "zen", "instructions": ["avx2"]}, "rows": rows}

    for times, reached in [
        ((7.0, 14.0, 30.0), 1),
        ((6.9, 14.0, 30.0), 0),
        ((7.0, 13.9, 30.0), 0),
        ((7.0, 14.0, 29.9), 0),
    ]:
        assert f"reach all three: {reached} of 1 on zen (avx2)." in benchmark_tables.int8_aim([measured(*times)])


def test_what_a_result_lacks_is_named_beside_its_table():
    trained = [row.name for row in VARIANTS.values() if row.weights]
    rows = [{"network": name} for name in trained[1:]]
    assert benchmark_tables.not_measured({"rows": rows}) == [f"Not measured yet: `{trained[0]}`."]
    assert benchmark_tables.not_measured({"rows": [*rows, {"network": trained[0]}]}) == []


@pytest.mark.parametrize(("runtimes", "where"), [(["eager fp32"], 47.0), (["eager fp32", "ONNX Runtime int8"], 9.0)])
def test_the_picture_has_others_in_int8_once_they_are_measured_in_it(runtimes, where, tmp_path, page_of):
    at = {"batch": 1, "threads": 1, "params": 1, "published_top1": 97.02, "network": benchmark_tables.PEER}
    times = {"eager fp32": 47.0, "ONNX Runtime int8": 9.0}
    spread = {runtime: dict.fromkeys(("median", "q1", "q3"), times[runtime]) for runtime in runtimes}
    rows = [at | {"runtime": runtime, "milliseconds": spread[runtime]} for runtime in runtimes]
    (tmp_path / "latency.zen.2026-01-02.json").write_text(json.dumps({"rows": rows}))
    assert draw_accuracy.latencies() == {benchmark_tables.PEER: where}


def test_every_result_has_its_tables_and_its_picture_beside_it_and_nothing_else_lies_there():
    kept = benchmark_tables.beside_results(ROOT)  # what make_tables.py --check compares
    folder = ROOT / "benchmarks" / "results"
    assert kept.keys() == {path.relative_to(ROOT).as_posix() for path in folder.iterdir() if path.suffix != ".json"}
    page = benchmark_tables.page()
    for theme in tables.TITLES:
        picture = results.file_name(benchmark_tables.newest(theme)).replace(".json", ".svg")
        assert f"](../benchmarks/results/{picture})" in page
        assert f"benchmarks/results/{picture}" in kept


def test_a_picture_is_the_same_whenever_it_is_drawn_and_another_once_its_figures_change():
    def drawn(old, median):
        spread = {"median": median, "q1": median - 1, "q3": median + 1}
        result = {"theme": "counting", "times_faster": {"count_params": spread}}
        return charts.chart(old, result)

    first = drawn(None, 1000.0)
    assert drawn(None, 1000.0) == first
    of_another_version = first.replace("<defs>", "<defs >", 1)  # the same figures in other bytes
    assert drawn(of_another_version, 1000.0) == of_another_version != first
    assert drawn(first, 1200.0) == drawn(None, 1200.0) != first
