"""Turn a finished training run into bundled weights: the file, its log, and the card for trained_weights.py.

    python benchmarks/bundle_weights.py runs/resnet9 --tag prog32_c10 --data DIR

The weights become fp16 (BatchNorm's running statistics stay fp32), and the accuracy that is printed is that of the
written file, run in fp32 on CIFAR-10's test set.
"""

import argparse
import hashlib
import json
import shlex
import shutil
import sys
from pathlib import Path

import timm
import torch
from arguments import file
from safetensors.torch import load, load_file, save

import budgetnets
from budgetnets.rows import Weights
from budgetnets.variants import find_variant
from budgetnets.verification import calibration_error, predict, read_test_set
from budgetnets.weights import bundled_path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import cifar
import recipes
import train

MOST_BYTES = 10 * 2**20
LOGS = Path(__file__).parent.parent / "docs" / "logs"


def to_half(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """fp16 but for BatchNorm's statistics, whose small variances fp16 would round away."""
    return tensor if "running_" in name or not tensor.is_floating_point() else tensor.half()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder that examples/train.py wrote")
    parser.add_argument("--tag", required=True, help="<recipe>_c10")
    parser.add_argument("--data", required=True, help="the folder that holds cifar-10-batches-py")
    parser.add_argument("--out", type=file, help="write the weights there instead of into the package")
    args = parser.parse_args()

    for needed in ("log.json", "model.safetensors", "curves.png"):
        if not (args.run / needed).exists():
            parser.error(f"{args.run} holds no {needed}; give the folder of a run that examples/train.py has finished")
    log = json.loads((args.run / "log.json").read_text())
    done, wanted = len(log["epochs"]), log["args"]["epochs"]
    if done < wanted:
        parser.error(f"{args.run} has {done} of {wanted} epochs; only the last epoch counts")
    if log.get("data", "CIFAR-10") != "CIFAR-10":  # older logs do not say
        parser.error(f"{args.run} was trained on {log['data']} images; train it with --data DIR")
    if log["args"]["holdout"] or log["args"]["limit"]:
        parser.error(f"{args.run} was not trained on all images; leave --holdout and --limit at 0")
    if log["evaluated_on"] != "test" or log["chosen_on"] != "nothing":
        parser.error(
            f"{args.run} was evaluated on {log['evaluated_on']} and its epoch chosen on {log['chosen_on']}; a "
            "published figure is that of the last epoch on the test images as they are"
        )
    try:
        row = find_variant(log["model"])
    except ValueError as error:  # budget_resnet with letters, or a network of timm's own
        parser.error(f"{args.run} trained no variant ({error}); add its row to variants.py and train that")
    if log.get("start_sha256") or log.get("averaged"):
        parser.error(f"{args.run} did not start at random; the zoo's weights come from one training that did")
    reached = log["epochs"][-1]["eval_top1"]
    reported = max((run.top1 for run in row.reported), default=0.0)
    if reached <= reported:
        parser.error(f"{args.run} reached {reached:.2f} %, and the report {reported:.2f} %; train it for longer")
    log_path = LOGS / f"{row.name}.{args.tag}.json"
    weights = Weights(args.tag, "", 0.0, 0.0, 0.0, seeds=(), recipe={}, log=f"docs/logs/{log_path.name}")
    if tuple(map(tuple, cifar.mean_and_std(argparse.Namespace(**log["args"])))) != (weights.mean, weights.std):
        parser.error(f"{args.run} has --mean or --std of its own; the zoo's weights take {weights.mean}, {weights.std}")
    path = args.out or bundled_path(row, weights)
    state = load_file(args.run / "model.safetensors")
    content = save({name: to_half(name, tensor) for name, tensor in state.items()}, {"format": "pt"})
    if len(content) > MOST_BYTES:
        parser.error(f"the weights have {len(content):,} bytes; at most {MOST_BYTES:,} are bundled")
    model = timm.create_model(row.name).eval()
    model.load_state_dict(load(content))
    try:
        images, labels = read_test_set(args.data)
    except FileNotFoundError as error:
        parser.error(f"--data {args.data}: {error}")
    logits, mirrored = (predict(model, x, weights.mean, weights.std) for x in (images, images.flip(3)))
    both = (logits, (logits + mirrored) / 2)
    top1, top1_flip = (round(100 * (x.argmax(1) == labels).double().mean().item(), 2) for x in both)
    LOGS.mkdir(exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    log_path.write_text(json.dumps(log, indent=1) + "\n")
    shutil.copyfile(args.run / "curves.png", log_path.with_suffix(".png"))

    command = ["examples/train.py", "--model", row.name, *recipes.as_words(log["args"], train.defaults(), {"model"})]
    if log["compiled"]:
        usual = log["compiled"] == train.defaults()["compile_mode"]
        command += ["--compile"] if usual else ["--compile", "--compile-mode", log["compiled"]]
    recipe = {
        "command": shlex.join(command),
        "epochs": wanted,
        "seed": log["args"]["seed"],
        "hardware": log["hardware"],
        "seconds": round(sum(epoch["train_seconds"] for epoch in log["epochs"])),
        "torch": log["versions"]["torch"],
        "commit": log["commit"],
    }
    if "continued" in log:  # on other hardware, say
        recipe["continued"] = log["continued"]
    row_text = {
        "tag": args.tag,
        "sha256": hashlib.sha256(content).hexdigest(),
        "top1": top1,
        "top1_flip": top1_flip,
        "ece": round(calibration_error(logits, labels), 2),
        "seeds": (top1,),  # and the other seeds' where there are any; the file must be the median's
        "recipe": recipe,
        "log": weights.log,
    }
    print(f"{path}: {len(content):,} bytes; put this under {row.name} into trained_weights.py:\n")
    print("Weights(\n" + "".join(f"    {name}={value!r},\n" for name, value in row_text.items()) + "),")


if __name__ == "__main__":
    assert budgetnets  # registers the variants with timm
    main()
