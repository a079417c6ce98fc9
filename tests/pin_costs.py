"""Write tests/costs.json: what each variant within the budget costs, counted and not timed.

    python tests/pin_costs.py            # those of new variants
    python tests/pin_costs.py --again    # all

A test fails when a change makes a network or its exported file larger; run the second when that is meant.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import onnx
from tqdm import tqdm

import budgetnets
from budgetnets.onnx_graph import WithNormalization, export_graph
from budgetnets.rows import Variant
from budgetnets.variants import VARIANTS

PATH = Path(__file__).with_name("costs.json")


def costs(row: Variant) -> dict:
    """Parameters, multiply-adds, and the operators and bytes of the exported file, and of the int8 one."""
    found = {"params": budgetnets.count_params(row.spec), "macs": budgetnets.count_macs(row.spec)}
    found |= file_costs(export_graph(WithNormalization(budgetnets.create(row.name).eval(), normalize=True)))
    if row.weights:
        with tempfile.TemporaryDirectory() as folder:
            written = budgetnets.export_onnx(row.name, Path(folder, "net.onnx"), int8=True)
            found["int8"] = file_costs(onnx.load(written.path))
    return found


def file_costs(graph: onnx.ModelProto) -> dict:
    return {
        "operators": dict(sorted(Counter(node.op_type for node in graph.graph.node).items())),
        "kilobytes": round(graph.ByteSize() / 1000),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="count all variants anew")
    known = {} if parser.parse_args().again else json.loads(PATH.read_text())
    rows = [row for row in VARIANTS.values() if row.in_budget]
    pinned = {row.name: known.get(row.name) or costs(row) for row in tqdm(rows)}
    PATH.write_text(json.dumps(pinned, indent=1) + "\n")
    print(f"wrote {PATH}")
