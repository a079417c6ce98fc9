"""How fast counting by arithmetic is, beside building the network without storage and counting there.

    python benchmarks/counting.py --specs 100000

The specs are counted in blocks, and after each block some of its networks are built: a block's ratio compares what ran
at nearly the same time.
"""

import argparse
import random
import statistics
import time

import results
import torch
from arguments import folder
from spreads import paired
from tqdm import tqdm

import budgetnets
from budgetnets import BudgetResNet, ResNetSpec

BLOCKS = 20
BUILT = 5  # of each block's specs are built too
BUILD = "build_on_meta_and_count"


def random_spec(rng: random.Random) -> ResNetSpec:
    n = rng.randint(2, 5)
    return ResNetSpec.from_dict(
        {
            "N": n,
            "B": [rng.randint(1, 4) for _ in range(n)],
            "C": [rng.choice(range(16, 257, 8)) for _ in range(n)],
            "F": rng.choice([3, 5]),
            "K": rng.choice([1, 3]),
            "se": rng.choice([None, "stem", "block"]),
        }
    )


def build_and_count(spec: ResNetSpec) -> int:
    model = BudgetResNet(spec, device=torch.device("meta"))
    return sum(p.numel() for p in model.parameters())


def microseconds(count, specs: list[ResNetSpec]) -> float:
    """Mean time for one of the specs."""
    started = time.perf_counter()
    for spec in specs:
        count(spec)
    return 1e6 * (time.perf_counter() - started) / len(specs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", type=int, default=100_000)
    parser.add_argument("--out", type=folder, default=results.FOLDER)
    args = parser.parse_args()
    if args.specs < BLOCKS * BUILT:
        parser.error(f"--specs {args.specs} is too few; use {BLOCKS * BUILT} or more")
    rng = random.Random(0)
    specs = [random_spec(rng) for _ in tqdm(range(args.specs), "specs", leave=False)]
    build_and_count(specs[0])  # torch's first layers on the meta device take a while, once in a process
    counted: dict[str, list[float]] = {"count_params": [], "count_macs": [], BUILD: []}
    for i in tqdm(range(BLOCKS), "blocks", leave=False):
        block = specs[i::BLOCKS]
        counted["count_params"].append(microseconds(budgetnets.count_params, block))
        counted["count_macs"].append(microseconds(budgetnets.count_macs, block))
        counted[BUILD].append(microseconds(build_and_count, block[:BUILT]))
        assert all(build_and_count(spec) == budgetnets.count_params(spec) for spec in block[:BUILT])
    mean = {name: statistics.mean(times) for name, times in counted.items()}
    times = {name: paired(counted[BUILD], counted[name]) for name in ("count_params", "count_macs")}
    path = results.save("counting", {"specs": len(specs), "microseconds": mean, "times_faster": times}, args.out)
    print(*(f"{name}: {value:.1f} us" for name, value in mean.items()), sep="\n")
    print(*(f"{name} is {value['median']:,.0f} times faster than building" for name, value in times.items()), sep="\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
