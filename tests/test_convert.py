"""Claims about examples/convert.py: a checkpoint of another repository gives the same logits here."""

import json

import convert
import numpy as np
import pytest
import torch
from foreign import Basic, Efficient, Kuangliu, Wide, letters, refusal, small_net, torchvision_net, trained
from safetensors.torch import save_file
from scripts import run
from torch import nn
from torchvision.models import resnet as torchvision_resnet

import budgetnets

KUANGLIU_STD = (0.2023, 0.1994, 0.2010)
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def small():
    return small_net()


def converted(checkpoint, out, *options):
    """Run the script, which must succeed; return the network that its folder gives, and what it printed."""
    said = run("convert.py", checkpoint, "--out", out, *options)
    return budgetnets.create(f"local-dir:{out}", pretrained=True), said


def assert_same_logits(ours, theirs):
    """Compare in double precision, so that nothing but a different network can make a difference."""
    with torch.inference_mode():
        expected = theirs.double()(IMAGES)
        torch.testing.assert_close(ours.double()(IMAGES), expected, rtol=1e-9, atol=1e-9)
    assert expected.std() > 1e-3


def test_kuanglius_resnet18_becomes_the_variant(tmp_path):
    net = trained(Kuangliu(Basic, [2, 2, 2, 2]))
    torch.save({"net": nn.DataParallel(net).state_dict(), "acc": 95.47, "epoch": 199}, tmp_path / "ckpt.pth")
    model, said = converted(
        tmp_path / "ckpt.pth", tmp_path / "out", "--model", "resnet18_cifar", "--std", *KUANGLIU_STD, "--license", "mit"
    )
    assert_same_logits(model, net)
    assert model.class_names == budgetnets.CIFAR10_CLASSES
    assert "122 tensors, names of kuangliu/pytorch-cifar\n" in said
    assert "resnet18_cifar, 11,173,962 parameters, 10 outputs" in said
    assert said.splitlines()[-1] == f'budgetnets.create("local-dir:{tmp_path / "out"}", pretrained=True)'

    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architecture"] == "resnet18_cifar"
    assert config["pretrained_cfg"]["std"] == list(KUANGLIU_STD)
    assert config["pretrained_cfg"]["license"] == "mit"
    assert "license: mit" in (tmp_path / "out" / "README.md").read_text()
    normalize = budgetnets.transforms(model).transforms[-1]
    torch.testing.assert_close(torch.as_tensor(normalize.std), torch.tensor(KUANGLIU_STD))
    torch.testing.assert_close(torch.as_tensor(normalize.mean), torch.tensor(budgetnets.CIFAR10_MEAN))


def test_kuanglius_bottlenecks_and_another_number_of_classes(tmp_path):
    net = trained(Kuangliu(Wide, [1, 2, 1, 1], width=8, num_classes=3))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    options = ["--model", "budget_resnet", "--model-args", letters([8, 16, 32, 64], [1, 2, 1, 1], block="bottleneck")]
    model, said = converted(tmp_path / "net.pt", tmp_path / "out", *options, "--classes", "cat", "dog", "big ship")
    assert_same_logits(model, net)
    assert model.class_names == ("cat", "dog", "big ship")
    assert "3 outputs" in said


@pytest.mark.parametrize("squeeze", [True, False])
def test_efficient_resnets_of_all_letters(tmp_path, squeeze):
    """With what its training script notes beside the weights, among it a count that is NumPy's."""
    net = trained(Efficient([2, 1, 1], 32, [3, 5, 3], [1, 3, 1], squeeze))
    notes = {"total_params": np.int64(1), "squeeze_and_excitation": int(squeeze)}
    torch.save({"net": net.state_dict(), "acc": np.float64(96.04), "epoch": 1, "config": notes}, tmp_path / "ckpt.pth")
    shape = letters([32, 64, 128], [2, 1, 1], F=[3, 5, 3], K=[1, 3, 1], P=8, se="stem" if squeeze else None)
    options = ["--model", "budget_resnet", "--model-args", shape]
    model, said = converted(tmp_path / "ckpt.pth", tmp_path / "out", *options)
    assert_same_logits(model, net)
    assert "names of Efficient_ResNets" in said


def test_project1_model_becomes_the_reports_variant(tmp_path):
    net = trained(Efficient([4, 4, 3], 64, [3, 3, 3], [1, 1, 1]))
    torch.save(net.state_dict(), tmp_path / "project1_model.pt")
    model, said = converted(tmp_path / "project1_model.pt", tmp_path / "out", "--model", "resnet24_sestem_cifar")
    assert_same_logits(model, net)
    assert "4,697,742 parameters" in said


@pytest.mark.parametrize(
    ("block", "options"),
    [
        (torchvision_resnet.BasicBlock, ["--model", "resnet9_cifar"]),
        (
            torchvision_resnet.Bottleneck,
            ["--model", "budget_resnet", "--model-args", letters([64, 128, 256, 512], block="bottleneck")],
        ),
    ],
    ids=["basic", "bottleneck"],
)
def test_torchvisions_names(tmp_path, block, options):
    """With five outputs and no names for them, none are made up."""
    net = trained(torchvision_net(block, 5))
    torch.save({"state_dict": net.state_dict(), "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, tmp_path / "x.t")
    model, said = converted(tmp_path / "x.t", tmp_path / "out", *options)
    assert_same_logits(model, net)
    assert "names of torchvision" in said
    assert model.class_names is None
    assert "label_names" not in (tmp_path / "out" / "config.json").read_text()


def test_our_own_names_pass(tmp_path):
    net = trained(budgetnets.build_resnet(2, 1, [8, 12], se="block", num_classes=4))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    options = ["--model", "budget_resnet", "--model-args", letters([8, 12], se="block")]
    model, said = converted(tmp_path / "net.safetensors", tmp_path / "out", *options)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in model.state_dict().items())
    assert "names of budgetnets" in said


CONTAINERS = {
    "plain": lambda state: state,
    "net": lambda state: {"net": state, "acc": 90.0, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state, "arch": "resnet"},
    "model": lambda state: {"model": state, "rng": torch.get_rng_state()},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "nested": lambda state: {"model": {"state_dict": state}},
    "module.": lambda state: {f"module.{name}": value for name, value in state.items()},
    "_orig_mod.": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "both": lambda state: {"net": {f"_orig_mod.module.{name}": value for name, value in state.items()}},
    "both, turned": lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
    "half precision": lambda state: {n: v.bfloat16() if v.is_floating_point() else v for n, v in state.items()},
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("save", ["zip", "before PyTorch 1.6"])
def test_every_usual_container_gives_the_weights(small, tmp_path, container, save):
    net, options = small
    path = tmp_path / "ckpt.pth.tar"
    torch.save(CONTAINERS[container](net.state_dict()), path, _use_new_zipfile_serialization=save == "zip")
    convert.main([str(path), "--out", str(tmp_path / "out"), *options])
    model = budgetnets.create(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    converted = [value for name, value in sorted(model.state_dict().items()) if "stages.1.0.conv1" in name]
    original = net.layer2[0].conv1.weight.detach()
    assert torch.equal(converted[0], original.bfloat16().float() if container == "half precision" else original)
    if container != "half precision":
        with torch.inference_mode():
            torch.testing.assert_close(model(IMAGES.float()), net.float()(IMAGES.float()), rtol=1e-4, atol=1e-5)


def test_checkpoints_that_did_not_count_batches(small, tmp_path):
    net, options = small
    state = {name: value for name, value in net.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    model, said = converted(tmp_path / "old.pth", tmp_path / "out", *options)
    assert_same_logits(model, net)
    assert model.stem.norm.num_batches_tracked.item() == 0
    assert "14 num_batches_tracked set to 0" in said


def test_of_several_sets_of_weights_one_must_be_chosen(small, tmp_path):
    net, options = small
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
    net.linear.bias.grad = torch.ones_like(net.linear.bias)
    optimizer.step()
    averaged = {name: value + 1 for name, value in net.state_dict().items()}
    notes = {"optimizer": optimizer.state_dict(), "log": {"epochs": [{"top1": 9.0}]}, "best": {"state": None}}
    torch.save({"model": net.state_dict(), "result": averaged} | notes, tmp_path / "checkpoint.pt")
    rest = [str(tmp_path / "checkpoint.pt"), "--out", str(tmp_path / "out"), *options]
    assert "several sets of weights: model, result; choose one with --key" in refusal(*rest)
    assert "did you mean 'result'?" in refusal(*rest, "--key", "results")
    convert.main([*rest, "--key", "result"])
    model = budgetnets.create(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert torch.equal(model.head.bias, averaged["linear.bias"].float())


def test_an_empty_folder_is_filled(small, tmp_path, capsys):
    torch.save(small[0].state_dict(), tmp_path / "x.pt")
    (tmp_path / "out").mkdir()
    convert.main([str(tmp_path / "x.pt"), *small[1], "--out", str(tmp_path / "out"), "--mean", "0", "0", "0"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert "mean (0.0, 0.0, 0.0), std (0.247, 0.2435, 0.2616)" in capsys.readouterr().out
    config = json.loads((tmp_path / "out" / "config.json").read_text())["pretrained_cfg"]
    assert (config["mean"], config["std"]) == ([0.0, 0.0, 0.0], [0.247, 0.2435, 0.2616])
    assert "license: unknown" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_said_of_a_variants_own_weights_is_said_of_the_converted_ones(tmp_path, monkeypatch):
    create, own = budgetnets.create, {"tag": "recipe_cifar10", "hf_hub_id": "budgetnets/resnet9_cifar@recipe_cifar10"}

    def create_with_weights(*args, **kwargs):
        model = create(*args, **kwargs)
        model.pretrained_cfg |= own | {"label_names": budgetnets.CIFAR10_CLASSES}
        return model

    torch.save(trained(torchvision_net(torchvision_resnet.BasicBlock, 10)).state_dict(), tmp_path / "x.pt")
    monkeypatch.setattr(budgetnets, "create", create_with_weights)
    classes = [f"class {i}" for i in range(10)]
    rest = ["--model", "resnet9_cifar", "--out", str(tmp_path / "out"), "--classes", *classes]
    convert.main([str(tmp_path / "x.pt"), *rest])
    text = (tmp_path / "out" / "config.json").read_text()
    assert not any(word in text for word in ("recipe_cifar10", "hf_hub_id", "airplane", "apache-2.0"))
    assert create(f"local-dir:{tmp_path / 'out'}", pretrained=True).class_names == tuple(classes)
