"""How fast counting by arithmetic is, beside building the network without storage and counting there.

python benchmarks/counting.py --specs 100000
"""

import argparse
import random
import time
from pathlib import Path

import results
import torch
from tqdm import tqdm

import budgetnets
from budgetnets import BudgetResNet, ResNetSpec

BUILT = 100  # of the specs are built too


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=results.FOLDER)
    args = parser.parse_args()
    rng = random.Random(0)
    specs = [random_spec(rng) for _ in tqdm(range(args.specs), "specs", leave=False)]
    rows = {}
    for name, count in (("count_params", budgetnets.count_params), ("count_macs", budgetnets.count_macs)):
        started = time.perf_counter()
        for spec in tqdm(specs, name, leave=False, mininterval=1):
            count(spec)
        rows[name] = 1e6 * (time.perf_counter() - started) / len(specs)
    step, built = max(1, len(specs) // BUILT), []
    for spec in tqdm(specs[::step], "built", leave=False):
        started = time.perf_counter()
        model = BudgetResNet(spec, device=torch.device("meta"))
        params = sum(p.numel() for p in model.parameters())
        built.append(1e6 * (time.perf_counter() - started))
        assert params == budgetnets.count_params(spec)
    rows["build_on_meta_and_count"] = sum(built) / len(built)
    times = {name: rows["build_on_meta_and_count"] / rows[name] for name in ("count_params", "count_macs")}
    path = results.save("counting", {"specs": len(specs), "microseconds": rows, "times_faster": times}, args.out)
    print(*(f"{name}: {value:.1f} us" for name, value in rows.items()), sep="\n")
    print(*(f"{name} is {value:,.0f} times faster than building" for name, value in times.items()), sep="\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
