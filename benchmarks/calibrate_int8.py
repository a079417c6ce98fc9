"""Quantize a variant's weights once, and write the int8 card for `budgetnets.export_onnx(name, path, int8=True)`.

    python benchmarks/calibrate_int8.py resnet9_cifar --data DIR

The ranges come from training images. The accuracy and the agreement with fp32 that the card states are those of the
exported file on CIFAR-10's test set, in ONNX Runtime; a loss of over 0.2 points is refused, and says which nodes to
leave in fp32 (`--float-nodes`).
"""

import argparse
import json
import platform
from pathlib import Path

import onnxruntime
import torch
from arguments import trained
from torchvision.datasets import CIFAR10
from tqdm import tqdm

import budgetnets
from budgetnets.onnx_graph import INPUT, WithNormalization, export_graph
from budgetnets.quantization import int8_card_path, measure_ranges, quantize
from budgetnets.variants import find_variant, find_weights
from budgetnets.verification import read_test_set

LARGEST_LOSS = 0.2  # points of top-1 on the test set
TRAINING_IMAGES = 50_000


def answers(graph, images) -> torch.Tensor:
    """Return the class that an ONNX model gives for each uint8 image (n, 3, 32, 32)."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    batches = tqdm(images.split(250), "test set", leave=False)
    return torch.cat([torch.from_numpy(session.run(None, {INPUT: batch.numpy()})[0]).argmax(1) for batch in batches])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", type=trained, help="a variant, with or without its weights' tag")
    parser.add_argument("--data", required=True, help="the folder that holds cifar-10-batches-py")
    parser.add_argument("--float-nodes", nargs="*", default=[], help="nodes to leave in fp32, such as conv0 add2")
    parser.add_argument("--images", type=int, default=512, help="training images that give the ranges [512]")
    args = parser.parse_args()
    if not 1 <= args.images <= TRAINING_IMAGES:
        parser.error(f"--images {args.images} is out of range; use 1 to {TRAINING_IMAGES:,}, such as 512 or 2048")
    row, weights = find_variant(args.name), find_weights(args.name)
    try:
        images, labels = read_test_set(args.data)  # before the export, which takes half a minute
    except FileNotFoundError as error:
        parser.error(f"--data {args.data}: {error}")
    net = WithNormalization(budgetnets.create(f"{row.name}.{weights.tag}", pretrained=True), normalize=True)
    fp32 = export_graph(net, dynamic_batch=True)

    train = torch.from_numpy(CIFAR10(args.data, train=True).data[: args.images]).permute(0, 3, 1, 2).contiguous()
    ranges = measure_ranges(fp32, train)
    int8 = quantize(fp32, ranges, args.float_nodes)
    exact, quantized = answers(fp32, images), answers(int8, images)
    top1_fp32, top1 = (100 * (found == labels).double().mean().item() for found in (exact, quantized))
    agreement = 100 * (exact == quantized).double().mean().item()
    print(f"{row.name}.{weights.tag}: fp32 {top1_fp32:.2f} %, int8 {top1:.2f} %, agreement {agreement:.2f} %")
    if top1 < top1_fp32 - LARGEST_LOSS:
        parser.error(f"int8 loses more than {LARGEST_LOSS} points; leave nodes of {', '.join(ranges)} in fp32")
    card = {
        "ranges": {name: [round(low, 6), round(high, 6)] for name, (low, high) in ranges.items()},
        "float_nodes": args.float_nodes,
        "top1": round(top1, 2),
        "agreement": round(agreement, 2),
        "provenance": f"ranges of the first {args.images} training images; CIFAR-10's test set in ONNX Runtime "
        f"{onnxruntime.__version__} on {cpu_name()}",
    }
    path = int8_card_path(row, weights)
    path.write_text(json.dumps(card, indent=1) + "\n")
    print(f"wrote {path}")


def cpu_name() -> str:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    flags = next((line for line in lines if line.startswith("flags")), "")
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    return f"{name} ({'with' if 'vnni' in flags else 'without'} VNNI)"


if __name__ == "__main__":
    main()
