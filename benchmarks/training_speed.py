"""Images trained per second: the fast path of examples/train.py beside the plain loop that everyone starts from.

    python benchmarks/training_speed.py --data DIR --model resnet9_cifar

Both train the same network with the same batch, in turns within one run. The plain loop is torchvision's data set and
transforms in a DataLoader, SGD, fp32, NCHW, eager. The fast path is a step of `examples/train.py --fast`, made of its
parts with its defaults: optimizer, schedule, smoothed labels, averaged weights. It is timed in the precisions that the
device computes fast, eager and compiled (on a GPU also into CUDA graphs), at the sizes to which `--sizes` scales the
images of a run's first epochs, and with `--sam`; `--ways` takes some of these. The quickest of them at full size is
then timed for other networks, beside their own plain loop. What train.py counts and evaluates beside its steps is left
out. Needs `pip install "budgetnets[train]"`.
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
from arguments import at_least, folder, variant
from spreads import paired, spread
from timm.utils import ModelEmaV3
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2
from tqdm import tqdm

import budgetnets
from budgetnets.variants import VARIANTS

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import cifar
import fast_data
import recipes
import sam
import train

SMALLER = (24, 16)  # pixels
SAM = ["--sam", "0.05"]
GRAPHS = ["--compile-mode", "reduce-overhead"]
PEAK_TFLOPS = {"NVIDIA H200": 790, "NVIDIA H100": 790}  # bf16, dense, as measured with large matrices


class PlainLoop:
    """The loop of every tutorial, a step at a time."""

    size = 32

    def __init__(self, batches: Iterator, model: str, device: torch.device) -> None:
        torch.manual_seed(0)
        self.batches, self.device = batches, device
        self.network = budgetnets.create(model).to(device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.01, 0.9, nesterov=True, weight_decay=5e-4)

    def step(self) -> None:
        images, labels = next(self.batches)
        F.cross_entropy(self.network(images.to(self.device)), labels.to(self.device)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def plain_batches(root: str, batch_size: int, workers: int) -> Iterator:
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
        yield from loader


class FastPath:
    """What train.py does for `--fast`, a step at a time.

    Args:
        options: those of train.py, as it parses them.
        loader: of fast_data; several ways may take their batches from one.
        size: of the images, in pixels.
    """

    def __init__(
        self, options: argparse.Namespace, loader: fast_data.FastLoader, device: torch.device, size: int
    ) -> None:
        torch.manual_seed(0)
        self.options, self.device, self.size, self.updates = options, device, size, 0
        self.batches = fast_batches(loader)
        self.network = recipes.make_model(options, device).to(memory_format=torch.channels_last)
        self.ema = ModelEmaV3(self.network, decay=options.ema, use_warmup=True)
        self.optimizer = recipes.make_optimizer(options, self.network, device)
        self.schedule = recipes.Schedule(options, self.optimizer, len(loader))
        mode = options.compile_mode
        self.forward = torch.compile(self.network, dynamic=False, mode=mode) if options.compile else self.network
        self.backward = (
            sam.sharpness_aware(self.pass_back, self.network, options.sam) if options.sam else self.pass_back
        )

    def pass_back(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            logits = self.forward(images)
        F.cross_entropy(logits.float(), labels, label_smoothing=self.options.smoothing).backward()

    def step(self) -> None:
        self.updates += 1
        self.schedule.before_update(self.updates)
        images, labels = next(self.batches)
        images = cifar.resized(images, self.size).to(memory_format=torch.channels_last)
        self.backward(images, labels)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.network, step=self.updates)


def fast_loader(options: argparse.Namespace, device: torch.device) -> fast_data.FastLoader:
    alone = SimpleNamespace(device=device, num_processes=1, process_index=0)  # as Accelerate describes one process
    return fast_data.make_loaders(options, alone)[0]


def fast_batches(loader: fast_data.FastLoader) -> Iterator:
    while True:
        yield from loader
        loader.epoch += 1


def kinds_of_fast_path(device: torch.device) -> dict[str, tuple[int, list[str]]]:
    """The size in pixels, and train.py's options, of each kind that is compared with the plain loop."""
    fast_bf16 = device.type == "cuda" or bool({"avx512_bf16", "amx_bf16"} & set(results.processor()["instructions"]))
    exact = "TF32" if device.type == "cuda" else "fp32"  # cuDNN's convolutions, unless told otherwise
    kinds = [(compiled, bf16, 32, []) for compiled in (False, True) for bf16 in sorted({False, fast_bf16})]
    kinds += [(True, fast_bf16, 32, GRAPHS)] if device.type == "cuda" else []
    kinds += [(True, fast_bf16, size, []) for size in SMALLER]
    named = {}
    for compiled, bf16, size, more in [*kinds, (True, fast_bf16, 32, SAM)]:
        name = f"fast path, {'bf16' if bf16 else exact}, {'compiled' if compiled else 'eager'}"
        name += f", {size} pixels" if size < 32 else ""
        name += ", SAM" if more == SAM else ", CUDA graphs" if more == GRAPHS else ""
        options = ["--precision", "bf16" if bf16 else "no", "--compile" if compiled else "--no-compile", *more]
        named[name] = size, options
    return named


def images_per_second(way: PlainLoop | FastPath, steps: int, batch_size: int) -> float:
    wait = torch.cuda.synchronize if way.device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    for _ in range(steps):
        way.step()
    wait()
    return steps * batch_size / (time.perf_counter() - started)


def in_turns(ways: dict[str, PlainLoop | FastPath], args: argparse.Namespace) -> dict[str, list[float]]:
    """The images per second of each way, in each round."""
    for way in tqdm(ways.values(), "warm-up", leave=False):
        images_per_second(way, 2, args.batch_size)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in tqdm(range(args.rounds), "rounds", leave=False):
        for name, way in ways.items():
            found[name].append(images_per_second(way, args.steps, args.batch_size))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder that holds cifar-10-batches-py")
    parser.add_argument("--model", type=variant, default="resnet9_cifar")
    in_budget = [row.name for row in VARIANTS.values() if row.in_budget]
    parser.add_argument(
        "--also", type=variant, nargs="*", default=in_budget, metavar="NAME", help="other networks, timed in two ways"
    )
    parser.add_argument("--ways", nargs="*", metavar="NAME", help="of the fast path, as the table names them; all")
    parser.add_argument("--batch-size", type=at_least(1), default=512 if torch.cuda.is_available() else 128)
    steps = 50 if torch.cuda.is_available() else 4
    parser.add_argument("--steps", type=at_least(1), default=steps, help="of one measurement")
    parser.add_argument("--rounds", type=at_least(1), default=5)
    parser.add_argument("--workers", type=at_least(0), default=2, help="of the plain loop's DataLoader")
    parser.add_argument("--out", type=folder, default=results.FOLDER)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    words = ["--fast", "--out", "none", "--data", args.data, "--batch-size", str(args.batch_size)]
    loader, kinds = fast_loader(train.parse_args(words), device), kinds_of_fast_path(device)
    if args.ways is not None:
        unknown = [name for name in args.ways if name not in kinds]
        if unknown or not args.ways:
            parser.error(f"--ways {unknown or 'without a name'}: this device has {', '.join(map(repr, kinds))}")
        full = [name for name, (size, _) in kinds.items() if size == 32]
        if not set(full) & set(args.ways):
            parser.error(f"--ways {args.ways} has none at full size, of which the quickest is named; add {full[0]!r}")
        kinds = {name: kinds[name] for name in args.ways}
    batches = plain_batches(args.data, args.batch_size, args.workers)

    def fast_path(model: str, kind: str) -> FastPath:
        size, options = kinds[kind]
        return FastPath(train.parse_args([*words, *options, "--model", model]), loader, device, size)

    ways = {"plain loop": PlainLoop(batches, args.model, device)}
    ways |= {kind: fast_path(args.model, kind) for kind in kinds}
    found = in_turns(ways, args)
    macs = budgetnets.count_macs(args.model)
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else ""
    peak = next((tflops for name, tflops in PEAK_TFLOPS.items() if gpu.startswith(name)), None)
    rows = []
    for name, speeds in found.items():
        row = {"way": name, "images_per_second": spread(speeds), "times_faster": paired(speeds, found["plain loop"])}
        # Forward, and twice that backward, with SAM both twice; a smaller image costs what its area does.
        flops = (2 if name.endswith("SAM") else 1) * 3 * 2 * macs * (ways[name].size / 32) ** 2
        row["tflops"] = flops * row["images_per_second"]["median"] / 1e12
        row["share_of_peak"] = row["tflops"] / peak if peak and "bf16" in name else None  # the peak is bf16's
        rows.append(row)
        print(
            f"{name}: {row['images_per_second']['median']:,.0f} images/s, {row['times_faster']['median']:.2f}x, "
            f"{row['tflops']:.3g} TFLOP/s"
        )
    whole = [row for row in rows if row["way"] in kinds and kinds[row["way"]][0] == 32]
    quickest = max(whole, key=lambda row: row["images_per_second"]["median"])["way"]
    others = []
    for model in (name for name in args.also if name != args.model):
        two = in_turns({"plain": PlainLoop(batches, model, device), "fast": fast_path(model, quickest)}, args)
        ratio = paired(two["fast"], two["plain"])
        others.append(
            {"network": model, **{name: spread(speeds) for name, speeds in two.items()}, "times_faster": ratio}
        )
        print(f"{model}: {ratio['median']:.2f}x")
    usual = train.defaults()
    step = f"timm's {usual['opt']}, labels smoothed by {usual['smoothing']} and averaged weights"
    result = {"model": args.model, "batch_size": args.batch_size, "threads": torch.get_num_threads(), "rows": rows}
    result |= {"quickest": quickest, "others": others}
    print(f"wrote {results.save('training-speed', result | {'fast_path': step}, args.out)}")


if __name__ == "__main__":
    main()
