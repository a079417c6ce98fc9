"""What each variant within the budget costs a small device: its ONNX file, peak memory and latency, fp32 and int8.

    python benchmarks/footprint.py
    python benchmarks/footprint.py --models resnet9_cifar --batches 1

Each file runs in ONNX Runtime on one thread, in a process of its own that has nothing else in it: peak memory is what
the process grew by, from just before the file is read (as /proc says, so on Linux only). A variant without trained
weights is built at random and quantized on generated images, with which the file comes out a little smaller. Needs `pip
install "budgetnets[onnx]" matplotlib`. Writes benchmarks/results/footprint.<processor>.<date>.json, with its table and
a picture beside it; `python docs/make_tables.py` takes them into the documentation.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import results
from arguments import at_least, folder, variant
from spreads import spread
from tqdm import tqdm

import budgetnets
from budgetnets.quantization import generated_images, read_int8_card
from budgetnets.variants import VARIANTS, find_weights

# Runs a file and prints bytes and milliseconds as JSON. Without torch in the process nothing else moves its memory.
RUN = """
import json, re, sys, time
import numpy, onnxruntime
path, batch, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
images = numpy.random.default_rng(0).integers(0, 256, (batch, 3, 32, 32), dtype=numpy.uint8)
def memory(key):
    return 1024 * int(re.search(key + r":\\s*(\\d+)", open("/proc/self/status").read())[1])
before = memory("VmRSS")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
session.run(None, {"images": images})
times = []
for _ in range(rounds):
    started = time.perf_counter()
    session.run(None, {"images": images})
    times.append(1000 * (time.perf_counter() - started))
print(json.dumps({"bytes": memory("VmHWM") - before, "milliseconds": times}))
"""


def export(name: str, int8: bool, path: Path) -> None:
    """Write a variant as users would: by its name, with its weights and its card, as far as it has them."""
    weights = find_weights(name)
    named = weights is not None and (not int8 or read_int8_card(VARIANTS[name], weights) is not None)
    network = name if named else budgetnets.create(name, pretrained=weights is not None).eval()
    calibration = generated_images(64, 3, 32) if int8 and not named else None
    budgetnets.export_onnx(network, path, int8=int8, calibration=calibration)


def tag_of(name: str) -> str | None:
    weights = find_weights(name)
    return weights.tag if weights else None


def measure(path: Path, batch: int, rounds: int) -> dict:
    command = [sys.executable, "-c", RUN, str(path), str(batch), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{path.name}, batch {batch}: {done.stderr}")
    found = json.loads(done.stdout)
    return {
        "batch": batch,
        "peak_bytes": found["bytes"],
        "milliseconds": spread(found["milliseconds"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    in_budget = [row.name for row in VARIANTS.values() if row.in_budget]
    parser.add_argument("--models", type=variant, nargs="+", default=in_budget)
    parser.add_argument("--batches", type=at_least(1), nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=at_least(1), default=15)
    parser.add_argument("--out", type=folder, default=results.FOLDER)
    args = parser.parse_args()
    rows = []
    with TemporaryDirectory() as exported:
        for name in (bar := tqdm(args.models, leave=False)):
            for precision in ("fp32", "int8"):
                bar.set_description(f"{name}, {precision}")
                path = Path(exported) / f"{name}-{precision}.onnx"
                export(name, precision == "int8", path)
                runs = [measure(path, batch, args.rounds) for batch in args.batches]
                about = {"network": name, "precision": precision, "weights": tag_of(name)}
                rows.append(about | {"file_bytes": path.stat().st_size, "runs": runs})
                path.unlink()
    path = results.save("footprint", {"threads": 1, "rounds": args.rounds, "rows": rows}, args.out)
    for row in rows:
        costs = ", ".join(
            f"batch {run['batch']}: {run['peak_bytes'] / 2**20:.1f} MiB, {run['milliseconds']['median']:.2f} ms"
            for run in row["runs"]
        )
        print(f"{row['network']}, {row['precision']}: {row['file_bytes'] / 1e6:.2f} MB; {costs}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
