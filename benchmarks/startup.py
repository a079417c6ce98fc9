"""What `import budgetnets` adds to `import timm`, and how long a pretrained network takes to create.

    python benchmarks/startup.py

Each round is a process of its own, which imports timm and then budgetnets. Writes
benchmarks/results/startup.<processor>.<date>.json, with its table and a picture beside it; `python
docs/make_tables.py` takes them into the documentation.
"""

import argparse
import json
import subprocess
import sys

import results
from arguments import at_least, folder, trained
from spreads import spread
from tqdm import tqdm

from budgetnets.variants import VARIANTS

# Prints, in milliseconds, the time after `import timm` that `import budgetnets` takes and that of each creation.
RUN = """
import json, sys, time
started = time.perf_counter()
import timm
timm_imported = time.perf_counter()
import budgetnets
imported = time.perf_counter()
created = []
for _ in range(int(sys.argv[2])):
    before = time.perf_counter()
    budgetnets.create(sys.argv[1], pretrained=True)
    created.append(1000 * (time.perf_counter() - before))
print(json.dumps([1000 * (timm_imported - started), 1000 * (imported - timm_imported), created]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [row.name for row in VARIANTS.values() if row.weights]
    parser.add_argument("--models", type=trained, nargs="+", default=known, help=f"variants with weights {known}")
    parser.add_argument(
        "--creations", type=at_least(2), default=10, help="in each process, the first of them cold [10]"
    )
    parser.add_argument("--rounds", type=at_least(1), default=7)
    parser.add_argument("--out", type=folder, default=results.FOLDER)
    args = parser.parse_args()
    rows = []
    for name in args.models:
        found = []
        for _ in tqdm(range(args.rounds), name, leave=False):
            command = [sys.executable, "-c", RUN, name, str(args.creations)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{name}: {done.stderr}")
            found.append(json.loads(done.stdout))
        imports_timm, imports_ours, creations = zip(*found, strict=True)
        rows.append(
            {
                "network": name,
                "import_timm": spread(list(imports_timm)),
                "import_budgetnets": spread(list(imports_ours)),
                "first_creation": spread([times[0] for times in creations]),
                "later_creation": spread([time for times in creations for time in times[1:]]),
            }
        )
    path = results.save("startup", {"rounds": args.rounds, "creations": args.creations, "rows": rows}, args.out)
    for row in rows:
        print(*(f"{row['network']}, {what}: {row[what]['median']:.0f} ms" for what in list(row)[1:]), sep="\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
