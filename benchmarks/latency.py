"""Latency on a CPU: our variants in every runtime, and the peers, all interleaved in one process.

    python benchmarks/latency.py                       everything; about three quarters of an hour
    python benchmarks/latency.py --models resnet9_cifar --peers "" --rounds 5

Machines are noisy, so what counts is the ratio: in each round every contender runs once, and is compared with another's
time in the same round. The peers have random weights, and go through the same exporter and quantizer as ours. Needs
`pip install "budgetnets[bench]" pytorchcv`. Writes
benchmarks/results/latency.<processor>.<date>.json, with its tables and a picture beside it; `python
docs/make_tables.py` takes them into the documentation.
"""

import argparse
import importlib.util
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnxruntime
import openvino
import results
import timm
import torch
from arguments import at_least, folder, one_of, variant
from footprint import export
from spreads import paired, spread
from tqdm import tqdm

import budgetnets
from budgetnets.onnx_graph import WithNormalization, export_graph, quiet
from budgetnets.quantization import generated_images, measure_ranges, quantize
from budgetnets.variants import VARIANTS, find_weights

REFERENCE = "resnet9_cifar, eager fp32"
PEERS = tomllib.loads((Path(__file__).parent / "peers.toml").read_text())["pytorchcv"]["networks"]
MEASURED_PEERS = (
    *("resnet20_cifar10", "resnet56_cifar10", "preresnet56_cifar10", "densenet100_k12_bc_cifar10"),
    *("resnet110_cifar10", "preresnet110_cifar10", "preresnet272bn_cifar10", "pyramidnet110_a48_cifar10"),
    *("pyramidnet110_a84_cifar10", "shakeshakeresnet26_2x32d_cifar10", "resnext29_32x4d_cifar10", "wrn16_10_cifar10"),
)
TIMM = ("resnet18", "mobilenetv3_small_100")  # with ten classes, fed 32x32 images
PLAIN = "resnet18_cifar"  # the plain ResNet-18 for CIFAR-10 that everyone starts from: the same network
LEAST_SECONDS = 0.1  # of one measurement


def onnx_runner(path: Path, threads: int) -> Callable:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda photos, images: session.run(None, {"images": photos.numpy()})


def openvino_runner(path: Path, threads: int) -> Callable:
    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(path, "CPU", config)
    return lambda photos, images: compiled([photos.numpy()])


def torch_runner(model: torch.nn.Module) -> Callable:
    model.eval()
    return lambda photos, images: model(images)


def ours(name: str, folder: Path, threads: int) -> dict[str, Callable]:
    """One variant in every runtime. The ONNX files take uint8 and normalize; the others get normalized floats."""
    model = budgetnets.create(name, pretrained=find_weights(name) is not None).eval()
    runners = {
        "eager fp32": torch_runner(model),
        "optimized fp32": torch_runner(budgetnets.optimize_for_inference(model)),
        "compiled fp32": torch_runner(torch.compile(budgetnets.optimize_for_inference(model), dynamic=False)),
    }
    if {"avx512_bf16", "amx_bf16"} & set(results.processor()["instructions"]):
        runners["optimized bf16"] = torch_runner(budgetnets.optimize_for_inference(model, torch.bfloat16))
    for precision, int8 in (("fp32", False), ("int8", True)):
        path = folder / f"{name}-{precision}.onnx"
        if not path.exists():
            export(name, int8, path)
        runners[f"ONNX Runtime {precision}"] = onnx_runner(path, threads)
        runners[f"OpenVINO {precision}"] = openvino_runner(path, threads)
    return {f"{name}, {runtime}": run for runtime, run in runners.items()}


def peer(name: str, folder: Path, threads: int) -> tuple[dict[str, Callable], int]:
    """A network of others in eager PyTorch and as ONNX files that take uint8, like ours; and its parameters."""
    model = build_peer(name).eval()
    runners = {"eager fp32": torch_runner(model)}
    for precision, path in peer_files(name, model, folder).items():
        runners[f"ONNX Runtime {precision}"] = onnx_runner(path, threads)
    return {f"{name}, {runtime}": run for runtime, run in runners.items()}, sum(p.numel() for p in model.parameters())


def peer_files(name: str, model: Any, folder: Path) -> dict[str, Path]:
    """Export and quantize a network as `budgetnets.export_onnx` does those of the family, its accuracy unknown."""
    paths = {precision: folder / f"{name}-{precision}.onnx" for precision in ("fp32", "int8")}
    if not all(path.exists() for path in paths.values()):
        model.in_chans, model.spec, model.pretrained_cfg = 3, None, {"mean": (0.5,) * 3, "std": (0.25,) * 3}
        net = WithNormalization(model, normalize=True)
        graph = export_graph(net)
        ranges = measure_ranges(graph, net.prepared(generated_images(64, *net.size)))
        onnx.save(graph, str(paths["fp32"]))
        with quiet():
            onnx.save(quantize(graph, ranges), str(paths["int8"]))
    return paths


def build_peer(name: str) -> torch.nn.Module:
    if name in PEERS:
        from pytorchcv.model_provider import get_model  # only here: the rest runs without it

        return get_model(name, pretrained=False)
    if name in TIMM:
        return timm.create_model(name, num_classes=10)
    return budgetnets.create(name)


@torch.inference_mode()
def measure(runners: dict[str, Callable], batch: int, rounds: int) -> dict[str, list[float]]:
    """Return milliseconds of each contender in each round."""
    photos = generated_images(batch, 3, 32)
    images = (photos.float() / 255 - 0.5) / 0.25
    repeats = {}
    for name, run in tqdm(runners.items(), f"warm-up, batch {batch}", leave=False):
        run(photos, images)
        started = time.perf_counter()
        run(photos, images)
        repeats[name] = max(1, round(LEAST_SECONDS / (time.perf_counter() - started)))
    found: dict[str, list[float]] = {name: [] for name in runners}
    for _ in tqdm(range(rounds), f"rounds, batch {batch}", leave=False):
        for name, run in runners.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                run(photos, images)
            found[name].append(1000 * (time.perf_counter() - started) / repeats[name])
    return found


def row(name: str, times: list[float], reference: list[float], batch: int, threads: int, sizes: dict) -> dict:
    network, _, runtime = name.partition(", ")
    return {
        "network": network,
        "runtime": runtime,
        "batch": batch,
        "threads": threads,
        "milliseconds": spread(times),
        "rounds": [round(time, 4) for time in times],  # so that any two contenders can be compared round by round
        "times_faster_than_reference": paired(reference, times),
        "params": sizes[network],
        "published_top1": PEERS.get(network, {}).get("top1"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trained = [name.name for name in VARIANTS.values() if name.weights] or ["resnet9_cifar"]
    parser.add_argument("--models", type=variant, nargs="*", default=trained, help=f"variants {trained}")
    known = one_of(["", *PEERS, *TIMM, *VARIANTS])  # '': none
    parser.add_argument("--peers", type=known, nargs="*", default=[*MEASURED_PEERS, *TIMM, PLAIN])
    parser.add_argument("--batches", type=at_least(1), nargs="+", default=[1, 64])
    parser.add_argument("--threads", type=at_least(1), nargs="+", default=sorted({1, torch.get_num_threads()}))
    parser.add_argument("--rounds", type=at_least(1), default=11)
    parser.add_argument("--out", type=folder, default=results.FOLDER)
    args = parser.parse_args()
    names = ["resnet9_cifar", *(name for name in args.models if name != "resnet9_cifar")]
    peers = [name for name in args.peers if name]
    theirs = [name for name in peers if name in PEERS]
    if theirs and importlib.util.find_spec("pytorchcv") is None:
        parser.error(f"--peers {' '.join(theirs)}: pytorchcv builds them; pip install pytorchcv, or leave them out")
    rows, files = [], {}
    with TemporaryDirectory() as exported:
        for threads in args.threads:
            torch.set_num_threads(threads)
            runners, sizes = {}, {}
            for name in tqdm(names, f"preparing, {threads} threads", leave=False):
                runners |= ours(name, Path(exported), threads)
                sizes[name] = VARIANTS[name].params
            for name in tqdm(peers, "preparing peers", leave=False):
                found, sizes[name] = peer(name, Path(exported), threads)
                runners |= found
            for batch in args.batches:
                found = measure(runners, batch, args.rounds)
                rows += [row(name, times, found[REFERENCE], batch, threads, sizes) for name, times in found.items()]
        files = {path.name: path.stat().st_size for path in sorted(Path(exported).glob("*.onnx"))}
    result = {"reference": REFERENCE, "rounds": args.rounds, "files": files, "rows": rows}
    path = results.save("latency", result, args.out)
    for entry in rows:
        times = entry["times_faster_than_reference"]["median"]
        print(
            f"{entry['threads']} threads, batch {entry['batch']:>2}: {entry['network']}, {entry['runtime']}: "
            f"{entry['milliseconds']['median']:.2f} ms, {times:.2f}x"
        )
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
