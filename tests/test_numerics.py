"""Weights that see nothing but padding stay as they are, and memory whole, whatever oneDNN does: examples/."""

import shlex
import subprocess
import sys

import pytest
import torch
import train
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import prune
from training import numerics, run

import budgetnets

pytestmark = pytest.mark.usefixtures("train_in_process")

DEEP = """--model budget_resnet --model-args '{"N": 7, "B": 1, "C": 8, "K": 3}' --limit 64 --batch-size 32 --epochs 1"""
PLAIN = "--ema 0 --warmup 0 --weight-decay 0 --opt momentum --precision bf16"


def unseen_by_hand(pixels, kernel_size, stride, padding):
    """The mask of one convolution's taps, (kernel_size, kernel_size), as a map of so many pixels leaves it."""
    starts = range(-padding, pixels + padding - kernel_size + 1, stride)
    seen = torch.tensor([any(0 <= start + tap < pixels for start in starts) for tap in range(kernel_size)])
    return ~(seen[:, None] & seen)


@pytest.fixture
def in_bf16():
    return Accelerator(mixed_precision="bf16", cpu=True)


@pytest.mark.parametrize(
    ("letters", "device", "layout"),
    [
        ((2, 1, [4, 8]), "cpu", torch.contiguous_format),  # a skip from four channels, by two pixels at a time
        ((2, 1, [7, 8]), "cpu", torch.contiguous_format),
        ((2, 1, [8, 16]), "cpu", torch.channels_last),
        ((2, 1, [4, 8], 3, 3), "cpu", torch.channels_last),  # skips of 3 x 3
        ((1, 2, 4), "cpu", torch.channels_last),  # no skip has a stride
        ((2, 1, [4, 8]), "cuda", torch.channels_last),
    ],
)
def test_channels_come_last_but_where_that_breaks_memory(letters, device, layout):
    assert numerics.memory_format(budgetnets.build_resnet(*letters), torch.device(device)) == layout


def test_a_network_of_few_channels_is_trained_without_breaking_memory(tmp_path):
    narrow = """--model budget_resnet --model-args '{"N": 4, "B": 2, "C": 4}' --data fake --limit 400 --batch-size 4"""
    command = [sys.executable, train.__file__, *shlex.split(narrow), "--epochs", "1", "--fast", "--cpu"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [3, 5, 9])
def test_found_are_the_taps_that_arithmetic_gives(pixels, stride, kernel_size, in_bf16):
    model = nn.Sequential(nn.Conv2d(2, 4, kernel_size, stride, kernel_size // 2, bias=False))
    model.in_chans = 2
    expected = unseen_by_hand(pixels, kernel_size, stride, kernel_size // 2)
    found = numerics.unseen_taps(model, pixels, in_bf16)
    assert len(found) == int(expected.any())
    for weight, mask in found:
        assert weight is model[0].weight
        assert torch.equal(mask, expected.expand_as(weight))


def test_only_the_unseen_taps_lose_their_gradient(in_bf16):
    model = budgetnets.build_resnet(7, 1, 8)
    found = numerics.unseen_taps(model, 32, in_bf16)
    assert model.training
    # Maps of 32, 16, 8, 4, 2, 1 and 1 pixels: strides of 2 lead from 2 pixels to 1, and from 1 to 1.
    centre, last_two = (torch.zeros(3, 3, dtype=torch.bool) for _ in range(2))
    centre[1, 1] = last_two[1:, 1:] = True
    seen = {f"stages.{stage}.0.conv{i}.weight": centre for stage, i in [(5, 2), (6, 1), (6, 2)]}
    seen["stages.5.0.conv1.weight"] = last_two
    for p in model.parameters():
        p.grad = torch.full_like(p, torch.nan)
    numerics.clear(found)
    for name, p in model.named_parameters():
        assert torch.equal(p.grad.isnan(), seen.get(name, torch.tensor(True)).expand_as(p)), name


def test_a_pruned_weight_is_found_too(in_bf16):
    model = budgetnets.build_resnet(7, 1, 8)
    convolution = model.stages[6][0].conv1
    prune.l1_unstructured(convolution, "weight", 0.5)
    assert any(weight is convolution.weight_orig for weight, _ in numerics.unseen_taps(model, 32, in_bf16))


def test_in_fp32_there_is_nothing_to_mend():
    assert numerics.unseen_taps(budgetnets.build_resnet(7, 1, 8), 32, Accelerator(mixed_precision="no", cpu=True)) == []


@pytest.mark.parametrize("also", ["", "--sam 0.05", "--compile"], ids=["plain", "sam", "compiled"])
def test_training_in_bf16_leaves_unseen_weights_as_they_are(also, tmp_path):
    for rate in (0, 0.05):
        run(tmp_path / str(rate), DEEP, PLAIN, also, f"--lr {rate}")
    start, end = (load_file(tmp_path / rate / "model.safetensors") for rate in ("0", "0.05"))
    for name in ("stages.5.0.conv2.weight", "stages.6.0.conv1.weight", "stages.6.0.conv2.weight"):
        changed = (start[name] != end[name]).any(0).any(0)
        assert changed.nonzero().tolist() == [[1, 1]], name
