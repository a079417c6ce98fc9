"""Claims about examples/finetune.py and classify_image.py, as a user meets them: in processes of their own."""

import importlib.util
import json
import re
import shutil
import time

import numpy as np
import pytest
import timm
import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import load_file
from scripts import finish, refusal, refused, run, start

import budgetnets

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("accelerate", "matplotlib"))), reason="pip install 'budgetnets[train]'"
)


# --- finetune.py


def read_log(out):
    return json.loads((out / "log.json").read_text())


def paint(root, name, color, seed, count=40):
    """Write noisy images of one colour: sizes at random, PNG and JPEG, with and without alpha, greyscale."""
    (root / name).mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        height, width = rng.integers(20, 80, 2)
        pixels = np.array(color) + rng.normal(0, 30, (height, width, 1))
        image = Image.fromarray(pixels.clip(0, 255).astype("uint8"))
        if i % 3 == 0:
            image.save(root / name / f"{i}.jpg")
        elif i % 3 == 1:
            image.convert("RGBA").save(root / name / f"{i}.png")
        else:
            image.convert("L" if len(set(color)) == 1 else "RGB").save(root / name / f"{i}.png")


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    root = tmp_path_factory.mktemp("two")
    paint(root, "grey", (110, 110, 110), seed=0)
    paint(root, "red", (200, 60, 60), seed=1)
    return root


QUICK = ["--cpu", "--batch-size", 8, "--epochs", 6]


@pytest.fixture(scope="module")
def tuned(two_classes, tmp_path_factory):
    """The folder, and the output, of a run from random weights."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    output = run("finetune.py", two_classes, "--out", out, "--model", "budget_resnet", "--no-pretrained", *QUICK)
    return out, output


def test_finetuning_learns_a_folder_of_any_sizes_and_modes(tuned):
    out, output = tuned
    log = read_log(out)
    assert [entry["epoch"] for entry in log["epochs"]] == [1, 2, 3, 4, 5, 6]
    assert log["images"] == [64, 16]
    assert log["epochs"][-1]["holdout_top1"] > 90
    assert log["holdout_top1_by_class"].keys() == {"grey", "red"}
    assert re.search(r"^grey +\d+\.\d\d %\nred +\d+\.\d\d %\n16 images held out: \d+\.\d\d %", output, re.MULTILINE)
    files = ["README.md", "config.json", "log.json", "model.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == files
    assert all((out / name).stat().st_mode & 0o444 == 0o444 for name in files)  # readable by all
    assert f"Top-1 as its author gives it: {log['epochs'][-1]['holdout_top1']:.2f} %" in (out / "README.md").read_text()


def test_a_picture_of_16_bits_is_learned_from_as_it_is_classified(tmp_path):
    finetune = pytest.importorskip("finetune")
    bytes_ = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(bytes_ * 257).save(tmp_path / "deep.png")
    assert np.array_equal(np.asarray(finetune.load_image(tmp_path / "deep.png"))[:, :, 0], bytes_)


@pytest.mark.parametrize("create", [timm.create_model, budgetnets.create])
def test_a_finetuned_network_reloads_bit_equal_with_its_class_names(create, tuned):
    out, _ = tuned
    model = create(f"local-dir:{out}", pretrained=True)
    written = load_file(out / "model.safetensors")
    assert model.num_classes == 2
    assert model.class_names == ("grey", "red")
    assert model.state_dict().keys() == written.keys()
    assert all(torch.equal(tensor, written[name]) for name, tensor in model.state_dict().items())


def test_freezing_trains_the_classifier_alone_for_another_number_of_classes(tuned, two_classes, tmp_path):
    for part, count in (("train", 8), ("val", 4)):
        for seed, color in enumerate([(40, 40, 40), (60, 60, 200), (230, 230, 230)]):
            paint(tmp_path / "three" / part, f"class{seed}", color, seed, count)
    source, out = f"local-dir:{tuned[0]}", tmp_path / "run"
    run("finetune.py", tmp_path / "three", "--out", out, "--model", source, "--freeze", *QUICK)
    before, after = load_file(tuned[0] / "model.safetensors"), load_file(out / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    assert after["head.weight"].shape[0] == 3
    assert read_log(out)["images"] == [24, 12]


def test_the_same_seed_gives_the_same_network(tuned, two_classes, tmp_path):
    run("finetune.py", two_classes, "--out", tmp_path, "--model", "budget_resnet", "--no-pretrained", *QUICK)
    first, second = load_file(tuned[0] / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_mixed_precision_leaves_a_network_in_fp32(two_classes, tmp_path):
    options = ["--model", "budget_resnet", "--no-pretrained", "--precision", "bf16", *QUICK, "--epochs", 1]
    run("finetune.py", two_classes, "--out", tmp_path, *options)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {
        torch.float32,
        torch.int64,
    }


def test_a_network_of_one_channel_learns_from_grey_images(two_classes, tmp_path):
    budgetnets.save_pretrained(budgetnets.build_resnet(2, 1, 8, in_chans=1), tmp_path / "start")
    run("finetune.py", two_classes, "--out", tmp_path / "run", "--model", f"local-dir:{tmp_path / 'start'}", *QUICK)
    assert budgetnets.create(f"local-dir:{tmp_path / 'run'}", pretrained=True).in_chans == 1


def broken_folders(root):
    """Return faulty folders, each with what finetune.py must say of it."""
    sets = ("unequal/train", "unequal/val", "two sets/train", "two sets/test")
    for name in ("missing class", "one class", "damaged", *sets):
        paint(root / name, "a", (200, 0, 0), seed=0, count=2)
    (root / "missing class" / "b").mkdir()
    paint(root / "damaged", "b", (0, 0, 200), seed=0, count=2)
    for part in ("train", "val"):
        paint(root / "unequal" / part, f"only in {part}", (0, 0, 200), seed=0, count=2)
    damaged = root / "damaged" / "b" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    return {
        "nowhere": "nowhere: ",
        "damaged/b/0.jpg": "expected a folder with a subfolder of images for each class",
        "missing class": "no valid file for the classes b",
        "one class": "one class, 'a'",
        "damaged": f"{damaged} cannot be read as an image",
        "unequal": "only in train",
        "two sets": "test, train, with folders in them; two sets of the same classes are named train and val",
    }


@pytest.mark.slow
def test_finetuning_says_what_is_wrong_with_a_folder(tmp_path):
    expected = broken_folders(tmp_path)
    rest = ["--out", tmp_path / "run", "--model", "budget_resnet", "--no-pretrained", *QUICK]
    processes = {folder: start("finetune.py", tmp_path / folder, *rest) for folder in expected}
    for folder, process in processes.items():
        assert expected[folder] in refused(process), folder
    assert not (tmp_path / "run").exists()


def test_finetuning_takes_every_kind_of_picture_and_says_what_it_leaves_out(two_classes, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(two_classes, folder)
    for kind in ("gif", "webp", "tif"):
        Image.new("RGB", (20, 20), "red").save(folder / "red" / f"another.{kind}")
    (folder / "red" / "notes.txt").write_text("not a picture")
    options = ["--model", "budget_resnet", "--no-pretrained", *QUICK, "--epochs", 1]
    said = finish(start("finetune.py", folder, "--out", tmp_path / "run", *options))[1]
    assert "1 files are left out" in said
    assert "notes.txt" in said
    assert sum(read_log(tmp_path / "run")["images"]) == 2 * 40 + 3


@pytest.mark.slow
def test_finetuning_refuses_options_without_effect(two_classes, tmp_path):
    decay = start("finetune.py", two_classes, "--out", tmp_path / "run", "--freeze", "--layer-decay", 0.5)
    assert "--layer-decay 0.5 has no effect with --freeze" in refused(decay, status=2)
    for part in ("train", "val"):
        shutil.copytree(two_classes, tmp_path / "both" / part)
    share = start("finetune.py", tmp_path / "both", "--out", tmp_path / "run", "--holdout", 0.3)
    assert "--holdout 0.3 has no effect" in refused(share, status=2)


@pytest.mark.slow
def test_finetuning_refuses_an_unknown_model_and_a_folder_that_holds_a_run(tuned, two_classes, tmp_path):
    unknown = start("finetune.py", two_classes, "--out", tmp_path / "run", "--model", "resnet9_cifra", *QUICK)
    repeated = start("finetune.py", two_classes, "--out", tuned[0], *QUICK)
    small = ["--model", "budget_resnet", "--no-pretrained", *QUICK]
    unwritable = start("finetune.py", two_classes, "--out", "/proc/run", *small)
    assert "--out /proc/run cannot be written" in refused(unwritable)
    assert "did you mean 'resnet9_cifar'" in refused(unknown)
    assert "already holds a run" in refused(repeated)


def test_a_diverging_finetuning_ends_naming_step_and_learning_rate(two_classes, tmp_path):
    options = ["--model", "budget_resnet", "--no-pretrained", "--cpu", "--lr", 1e9, "--epochs", 3]
    message = refusal("finetune.py", two_classes, "--out", tmp_path / "run", *options, "--batch-size", 16)
    assert re.search(r"the loss is (nan|inf) at step [234], learning rate \d\.\d+e\+08; use a lower --lr", message)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_network_that_the_last_update_breaks_is_not_written(two_classes, tmp_path):
    options = ["--model", "budget_resnet", "--no-pretrained", "--cpu", "--lr", 1e30, "--epochs", 1]
    message = refusal("finetune.py", two_classes, "--out", tmp_path / "run", *options, "--batch-size", 64)
    assert "values that are not finite after step 1, learning rate 1e+30; use a lower --lr" in message
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_what_a_killed_finetuning_has_reached_loads(two_classes, tmp_path):
    options = ["--model", "budget_resnet", "--no-pretrained", *QUICK, "--epochs", 1000]
    process = start("finetune.py", two_classes, "--out", tmp_path / "run", *options)
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "run" / "log.json").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "no log in five minutes"
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert 1 <= len(read_log(tmp_path / "run")["epochs"]) < 1000
    model = budgetnets.create(f"local-dir:{tmp_path / 'run'}", pretrained=True)
    assert model.class_names == ("grey", "red")


def test_a_full_disk_is_named_and_leaves_no_half_a_file(two_classes, tmp_path):
    options = ["--model", "budget_resnet", "--no-pretrained", *QUICK]
    process = start("finetune.py", two_classes, "--out", tmp_path / "run", *options, file_limit=100_000)
    assert f"cannot write {tmp_path / 'run'}" in refused(process)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_of_two_finetunings_into_one_folder_one_is_refused(two_classes, tmp_path):
    out, small = tmp_path / "run", ["--model", "budget_resnet", "--no-pretrained", *QUICK]
    out.mkdir()
    with FileLock(out / ".lock"):  # as the other one holds it
        message = refusal("finetune.py", two_classes, "--out", out, *small)
    assert f"--out {out}: another run is writing into it" in message
    assert [path.name for path in out.iterdir()] == [".lock"]


@pytest.mark.slow
def test_finetuning_by_several_processes_is_refused_on_a_cpu_too(two_classes, tmp_path):
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    options = [two_classes, "--out", tmp_path / "run", "--epochs", 1]  # no --cpu, which is for where there is a GPU
    said = finish(start("finetune.py", *options, launcher=two), expected_status=1)[1]
    assert "one process; start it without torchrun" in said
    assert not (tmp_path / "run").exists()


# --- classify_image.py


def test_the_pretrained_network_sees_a_cat_in_the_photograph():
    if not importlib.util.find_spec("skimage"):
        pytest.skip("pip install 'budgetnets[demo]'")
    answer = run("classify_image.py")
    assert re.match(r"the cat: cat \d+\.\d%", answer)
    assert answer.count("%") == 5
