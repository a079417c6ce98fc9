"""Images trained per second: the fast path of examples/train.py beside the plain loop that everyone starts from.

    python benchmarks/training_speed.py --data DIR --model resnet9_cifar

Both train the same network with the same batch, crop and flip, in turns within one run. The plain loop is
torchvision's data set and transforms in a DataLoader, fp32, NCHW, eager. The fast path keeps the images on the device,
and is timed in the precisions that the device computes fast, eager and compiled, and at the sizes to which `--sizes`
scales the images of a run's first epochs. Neither averages weights, mixes images or keeps totals, which
examples/train.py does besides.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import results
import torch
import torch.nn.functional as F
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2
from tqdm import tqdm

import budgetnets

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import cifar
import fast_data

SMALLER = (24, 16)  # pixels
PEAK_TFLOPS = {"NVIDIA H200": 790, "NVIDIA H100": 790}  # bf16, dense, as measured with large matrices


def plain_batches(root: str, batch_size: int, workers: int, device: torch.device) -> Iterator:
    steps = [
        v2.RandomCrop(32, padding=4),
        v2.RandomHorizontalFlip(),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
    ]
    transform = v2.Compose([*steps, v2.Normalize(budgetnets.CIFAR10_MEAN, budgetnets.CIFAR10_STD)])
    data = CIFAR10(root, train=True, transform=transform)
    loader = torch.utils.data.DataLoader(
        data, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        for images, labels in loader:
            yield images.to(device), labels.to(device)


def fast_batches(root: str, batch_size: int, device: torch.device) -> Iterator:
    data = CIFAR10(root, train=True)
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous().to(device)
    args = SimpleNamespace(crop=4, flip="random", seed=0, batch_size=batch_size, auto_augment="", cutout=0.0)
    loader = fast_data.FastLoader(images, torch.tensor(data.targets, device=device), args, slice(None))
    while True:
        yield from loader
        loader.epoch += 1


class Trainer:
    """One way to train, a step at a time."""

    def __init__(
        self,
        batches: Iterator,
        model: str,
        device: torch.device,
        *,
        bf16: bool = False,
        last: bool = False,
        compiled: bool = False,
        size: int = 32,
    ) -> None:
        torch.manual_seed(0)
        self.batches, self.device, self.bf16, self.size = batches, device, bf16, size
        self.format = torch.channels_last if last else torch.contiguous_format
        network = budgetnets.create(model).to(device=device, memory_format=self.format)
        self.optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, nesterov=True, weight_decay=5e-4)
        self.network = torch.compile(network, dynamic=False) if compiled else network

    def step(self) -> None:
        images, labels = next(self.batches)
        images = cifar.resized(images, self.size)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.network(images.to(memory_format=self.format))
        F.cross_entropy(logits.float(), labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def images_per_second(self, steps: int, batch_size: int) -> float:
        self._wait()
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        self._wait()
        return steps * batch_size / (time.perf_counter() - started)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder that holds cifar-10-batches-py")
    parser.add_argument("--model", default="resnet9_cifar")
    parser.add_argument("--batch-size", type=int, default=512 if torch.cuda.is_available() else 128)
    parser.add_argument("--steps", type=int, default=50 if torch.cuda.is_available() else 4, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="of the plain loop's DataLoader")
    parser.add_argument("--out", type=Path, default=results.FOLDER)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    fast_bf16 = device.type == "cuda" or bool({"avx512_bf16", "amx_bf16"} & set(results.processor()["instructions"]))
    exact = "TF32" if device.type == "cuda" else "fp32"  # cuDNN's convolutions, unless told otherwise
    ways = {"plain loop": Trainer(plain_batches(args.data, args.batch_size, args.workers, device), args.model, device)}
    kinds = [(compiled, bf16, 32) for compiled in (False, True) for bf16 in sorted({False, fast_bf16})]
    for compiled, bf16, size in [*kinds, *((True, fast_bf16, size) for size in SMALLER)]:
        name = f"fast path, {'bf16' if bf16 else exact}, {'compiled' if compiled else 'eager'}"
        name += f", {size} pixels" if size < 32 else ""
        batches = fast_batches(args.data, args.batch_size, device)
        ways[name] = Trainer(batches, args.model, device, bf16=bf16, last=True, compiled=compiled, size=size)
    for way in tqdm(ways.values(), "warm-up", leave=False):
        way.images_per_second(2, args.batch_size)
    found = {name: [] for name in ways}
    for _ in tqdm(range(args.rounds), "rounds", leave=False):
        for name, way in ways.items():
            found[name].append(way.images_per_second(args.steps, args.batch_size))
    macs = budgetnets.count_macs(args.model)
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else ""
    peak = next((tflops for name, tflops in PEAK_TFLOPS.items() if gpu.startswith(name)), None)
    rows = []
    for name, speeds in found.items():
        ratios = [speed / plain for speed, plain in zip(speeds, found["plain loop"], strict=True)]
        row = {"way": name, "images_per_second": results.spread(speeds), "times_faster": results.spread(ratios)}
        # Forward, and twice that backward; a smaller image costs what its area does.
        flops = 3 * 2 * macs * (ways[name].size / 32) ** 2
        row["tflops"] = flops * row["images_per_second"]["median"] / 1e12
        row["share_of_peak"] = row["tflops"] / peak if peak and "bf16" in name else None  # the peak is bf16's
        rows.append(row)
        print(
            f"{name}: {row['images_per_second']['median']:,.0f} images/s, {row['times_faster']['median']:.2f}x, "
            f"{row['tflops']:.3g} TFLOP/s"
        )
    result = {"model": args.model, "batch_size": args.batch_size, "threads": torch.get_num_threads(), "rows": rows}
    print(f"wrote {results.save('training-speed', result, args.out)}")


if __name__ == "__main__":
    main()
