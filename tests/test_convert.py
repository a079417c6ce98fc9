"""Claims about examples/convert.py: a checkpoint of another repository gives the same logits here, or is refused."""

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet as torchvision_resnet

import budgetnets

SCRIPT = Path(__file__).parent.parent / "examples" / "convert.py"
KUANGLIU_STD = (0.2023, 0.1994, 0.2010)
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# --- The other repositories' networks: their attribute names and their arithmetic, in small


def conv(in_width, width, kernel, stride=1):
    return nn.Conv2d(in_width, width, kernel, stride, kernel // 2, bias=False)


def shortcut(in_width, width, stride, kernel=1):
    if stride == 1 and in_width == width:
        return nn.Sequential()
    return nn.Sequential(conv(in_width, width, kernel, stride), nn.BatchNorm2d(width))


class Basic(nn.Module):
    expansion = 1

    def __init__(self, in_width, width, stride, kernel=3, skip_kernel=1):
        super().__init__()
        self.conv1, self.bn1 = conv(in_width, width, kernel, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, kernel), nn.BatchNorm2d(width)
        self.shortcut = shortcut(in_width, width, stride, skip_kernel)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class Wide(nn.Module):
    """A bottleneck block."""

    expansion = 4

    def __init__(self, in_width, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(in_width, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.shortcut = shortcut(in_width, 4 * width, stride)

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class PreActivated(nn.Module):
    """The block of kuangliu's early ResNet18: the same names, but the norms come first and the shortcut has none."""

    expansion = 1

    def __init__(self, in_width, width, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(in_width), conv(in_width, width, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv(width, width, 3)
        if stride != 1 or in_width != width:
            self.shortcut = nn.Sequential(conv(in_width, width, 1, stride))


def make_layer(block, in_width, width, blocks, stride, *kernels):
    widths = [in_width] + [width * block.expansion] * (blocks - 1)
    return nn.Sequential(*(block(w, width, 1 if i else stride, *kernels) for i, w in enumerate(widths)))


class Kuangliu(nn.Module):
    def __init__(self, block, blocks, width=64, num_classes=10):
        super().__init__()
        self.conv1, self.bn1 = conv(3, width, 3), nn.BatchNorm2d(width)
        self.layer1 = make_layer(block, width, width, blocks[0], 1)
        self.layer2 = make_layer(block, width * block.expansion, 2 * width, blocks[1], 2)
        self.layer3 = make_layer(block, 2 * width * block.expansion, 4 * width, blocks[2], 2)
        self.layer4 = make_layer(block, 4 * width * block.expansion, 8 * width, blocks[3], 2)
        self.linear = nn.Linear(8 * width * block.expansion, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(F.avg_pool2d(x, 4).flatten(1))


class Squeeze(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width // 16, 1)
        self.conv2 = nn.Conv2d(width // 16, width, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.conv2(F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1)))))


class Efficient(nn.Module):
    """Efficient_ResNets' project1_model: the widths double from layer to layer, and P follows from N."""

    def __init__(self, blocks, width, kernels, skip_kernels, squeeze=True):
        super().__init__()
        self.pool = 32 // 2 ** (len(blocks) - 1)
        self.conv1, self.bn1 = conv(3, width, 3), nn.BatchNorm2d(width)
        if squeeze:
            self.seblock = Squeeze(width)
        widths = [width, *(width * 2**i for i in range(len(blocks)))]
        self.residual_layers = nn.ModuleList(
            make_layer(Basic, widths[i], widths[i + 1], blocks[i], 2 if i else 1, kernels[i], skip_kernels[i])
            for i in range(len(blocks))
        )
        self.linear = nn.Linear(widths[-1], 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.seblock(x) if hasattr(self, "seblock") else x
        for layer in self.residual_layers:
            x = layer(x)
        return self.linear(F.avg_pool2d(x, self.pool).flatten(1))


def torchvision_net(block, num_classes):
    """torchvision's own network with the usual change for small images: a 3x3 stem and no pool after it."""
    net = torchvision_resnet.ResNet(block, [1, 1, 1, 1], num_classes=num_classes)
    net.conv1, net.maxpool = conv(3, 64, 3), nn.Identity()
    return net


def trained(net):
    """Return a network in eval mode, with norms as after some training."""
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.data.normal_(0, 0.2, generator=generator)
            module.num_batches_tracked.fill_(7)
    return net.eval()


# --- What is converted


def letters(C, B=1, **more):
    return json.dumps({"N": len(C), "B": B, "C": C} | more)


def start(*options):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, options)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )


def convert(checkpoint, out, *options):
    """Run the script, which must succeed; return the network that its folder gives, and what it printed."""
    result = start(checkpoint, "--out", out, *options)
    assert result.returncode == 0, result.stderr
    return budgetnets.create(f"local-dir:{out}", pretrained=True), result.stdout


def assert_same_logits(ours, theirs):
    """Compare in double precision, so that nothing but a different network can make a difference."""
    with torch.inference_mode():
        expected = theirs.double()(IMAGES)
        torch.testing.assert_close(ours.double()(IMAGES), expected, rtol=1e-9, atol=1e-9)
    assert expected.std() > 1e-3


@pytest.fixture(scope="module")
def small():
    """A narrow network with kuangliu's names, and the options that describe it here."""
    torch.manual_seed(0)
    net = trained(Kuangliu(Basic, [1, 2, 1, 1], width=8))
    return net, ["--model", "budget_resnet", "--model-args", letters([8, 16, 32, 64], [1, 2, 1, 1])]


def test_kuanglius_resnet18_becomes_the_variant(tmp_path):
    net = trained(Kuangliu(Basic, [2, 2, 2, 2]))
    torch.save({"net": nn.DataParallel(net).state_dict(), "acc": 95.47, "epoch": 199}, tmp_path / "ckpt.pth")
    model, said = convert(
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
    model, said = convert(tmp_path / "net.pt", tmp_path / "out", *options, "--classes", "cat", "dog", "big ship")
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
    model, said = convert(tmp_path / "ckpt.pth", tmp_path / "out", *options)
    assert_same_logits(model, net)
    assert "names of Efficient_ResNets" in said


def test_project1_model_becomes_the_reports_variant(tmp_path):
    net = trained(Efficient([4, 4, 3], 64, [3, 3, 3], [1, 1, 1]))
    torch.save(net.state_dict(), tmp_path / "project1_model.pt")
    model, said = convert(tmp_path / "project1_model.pt", tmp_path / "out", "--model", "resnet24_sestem_cifar")
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
    model, said = convert(tmp_path / "x.t", tmp_path / "out", *options)
    assert_same_logits(model, net)
    assert "names of torchvision" in said
    assert model.class_names is None
    assert "label_names" not in (tmp_path / "out" / "config.json").read_text()


def test_our_own_names_pass(tmp_path):
    net = trained(budgetnets.build_resnet(2, 1, [8, 12], se="block", num_classes=4))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    options = ["--model", "budget_resnet", "--model-args", letters([8, 12], se="block")]
    model, said = convert(tmp_path / "net.safetensors", tmp_path / "out", *options)
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


@pytest.fixture(scope="module")
def script():
    """The script as a module, for what many processes would take too long to show."""
    spec = importlib.util.spec_from_file_location("convert_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("save", ["zip", "before PyTorch 1.6"])
def test_every_usual_container_gives_the_weights(small, tmp_path, script, container, save):
    net, options = small
    path = tmp_path / "ckpt.pth.tar"
    torch.save(CONTAINERS[container](net.state_dict()), path, _use_new_zipfile_serialization=save == "zip")
    script.main([str(path), "--out", str(tmp_path / "out"), *options])
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
    model, said = convert(tmp_path / "old.pth", tmp_path / "out", *options)
    assert_same_logits(model, net)
    assert model.stem.norm.num_batches_tracked.item() == 0
    assert "14 num_batches_tracked set to 0" in said


def test_of_several_sets_of_weights_one_must_be_chosen(small, tmp_path, script):
    net, options = small
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
    net.linear.bias.grad = torch.ones_like(net.linear.bias)
    optimizer.step()
    averaged = {name: value + 1 for name, value in net.state_dict().items()}
    notes = {"optimizer": optimizer.state_dict(), "log": {"epochs": [{"top1": 9.0}]}, "best": {"state": None}}
    torch.save({"model": net.state_dict(), "result": averaged} | notes, tmp_path / "checkpoint.pt")
    rest = [str(tmp_path / "checkpoint.pt"), "--out", str(tmp_path / "out"), *options]
    assert "several sets of weights: model, result; choose one with --key" in refusal(script, *rest)
    assert "did you mean 'result'?" in refusal(script, *rest, "--key", "results")
    script.main([*rest, "--key", "result"])
    model = budgetnets.create(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert torch.equal(model.head.bias, averaged["linear.bias"].float())


# --- What is refused


def refusal(script, *options):
    """Return what the script says as it refuses; it must leave no folder behind."""
    with pytest.raises(SystemExit) as caught:
        script.main(list(map(str, options)))
    assert isinstance(caught.value.code, str), "an error of the command line, not of the checkpoint"
    out = Path(options[list(map(str, options)).index("--out") + 1])
    assert not out.exists()
    return caught.value.code


def test_another_variant_is_refused_with_the_list_and_the_one_that_fits(tmp_path, script):
    state = Kuangliu(Basic, [3, 4, 6, 3], num_classes=100).state_dict()
    torch.save({"net": state}, tmp_path / "ckpt.pth")
    message = refusal(script, tmp_path / "ckpt.pth", "--model", "resnet18_cifar", "--out", tmp_path / "out")
    assert message.endswith("these are the shapes of resnet34_cifar; use --model resnet34_cifar")
    lines = message.splitlines()[1:-1]
    assert len(lines) == 96  # 16 - 8 blocks more, of 12 tensors each
    assert "  extra layer4.2.conv1.weight (here stages.3.2.conv1.weight): found (512, 512, 3, 3)" in lines

    old = {name: value for name, value in state.items() if "num_batches" not in name}
    torch.save({"net": old}, tmp_path / "ckpt.pth")
    message = refusal(script, tmp_path / "ckpt.pth", "--model", "resnet50_cifar", "--out", tmp_path / "out")
    assert "use --model resnet34_cifar" in message
    assert "  missing stages.0.0.conv3.weight: expected (256, 64, 1, 1)" in message
    conv1 = "other shape layer2.0.conv1.weight (here stages.1.0.conv1.weight)"
    assert f"  {conv1}: found (128, 64, 3, 3), expected (128, 256, 1, 1)" in message


def test_networks_that_only_look_alike_are_refused(small, tmp_path, script):
    """A stem for photographs, norms before the convolutions, a missing statistic, a bias too many."""
    _, options = small
    torch.save(torchvision_resnet.resnet18(num_classes=10).state_dict(), tmp_path / "imagenet.pth")
    message = refusal(script, tmp_path / "imagenet.pth", "--model", "resnet18_cifar", "--out", tmp_path / "out")
    assert len(message.splitlines()) == 3
    assert "other shape conv1.weight (here stem.conv.weight): found (64, 3, 7, 7), expected (64, 3, 3, 3)" in message
    assert "no variant has these names and shapes; describe the network: --model budget_resnet" in message

    torch.save(Kuangliu(PreActivated, [1, 2, 1, 1], width=8).state_dict(), tmp_path / "early.pth")
    message = refusal(script, tmp_path / "early.pth", *options, "--out", tmp_path / "out")
    assert "  missing stages.1.0.skip.norm.running_var: expected (16,)" in message
    assert "  other shape layer2.0.bn1.weight (here stages.1.0.norm1.weight): found (8,), expected (16,)" in message

    state = small[0].state_dict() | {"conv1.bias": torch.zeros(8)}
    del state["bn1.running_var"]
    torch.save(state, tmp_path / "biased.pth")
    message = refusal(script, tmp_path / "biased.pth", *options, "--out", tmp_path / "out")
    assert message.splitlines()[1:-1] == [
        "  missing stem.norm.running_var: expected (8,)",
        "  extra conv1.bias (here stem.conv.bias): found (8,)",
    ]


def test_names_of_no_known_layout_are_listed(small, tmp_path, script):
    torch.save({"model": {"features.0.weight": torch.zeros(2, 2)}}, tmp_path / "vgg.pth")
    message = refusal(script, tmp_path / "vgg.pth", *small[1], "--out", tmp_path / "out")
    assert "names of no known layout" in message
    assert "  extra features.0.weight: found (2, 2)" in message


UNFIT = {
    "integers": ("bn1.bias", lambda t: t.int(), "stem.norm.bias has dtype torch.int32"),
    "complex": ("bn1.bias", lambda t: t.to(torch.complex64), "stem.norm.bias has dtype torch.complex64"),
    "float8": ("bn1.bias", lambda t: t.to(torch.float8_e5m2), "stem.norm.bias has dtype torch.float8"),
    "NaN": ("layer1.0.bn2.weight", lambda t: t * float("nan"), "stages.0.0.norm2.weight has values that are not fin"),
    "infinity": ("linear.weight", lambda t: t / 0, "head.weight has values that are not finite"),
    "beyond float32": ("linear.bias", lambda t: t.double() + 1e300, "head.bias has values that are not finite"),
    "float counter": ("bn1.num_batches_tracked", lambda t: t.float(), "num_batches_tracked has dtype torch.float32"),
    "no values": ("bn1.bias", lambda t: t.to("meta"), "found a tensor without dense values, expected (8,)"),
    "sparse": ("bn1.bias", lambda t: t.to_sparse(), "found a tensor without dense values, expected (8,)"),
    "no tensor": ("bn1.bias", lambda t: t.tolist(), "found a list, expected (8,)"),
    "NumPy number": ("bn1.num_batches_tracked", lambda t: np.int64(3), "found a NumPyNumber, expected ()"),
    "twice": ("module.linear.bias", lambda t: t, "has linear.bias and module.linear.bias, which are the same part"),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize("case", UNFIT)
def test_tensors_that_are_no_weights_are_refused_by_name(small, tmp_path, script, case):
    net, options = small
    name, change, message = UNFIT[case]
    state = dict(net.state_dict())
    state[name] = change(state.get(name, torch.zeros(10)))
    torch.save({"net": state}, tmp_path / "ckpt.pth")
    said = refusal(script, tmp_path / "ckpt.pth", *options, "--out", tmp_path / "out")
    assert message in said
    assert str(tmp_path / "ckpt.pth") in said


class Payload:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(small, tmp_path, script):
    net, options = small
    trace, rest = tmp_path / "trace", [*options, "--out", tmp_path / "out"]
    torch.save({"net": net.state_dict(), "acc": Payload(trace)}, tmp_path / "net.pth")
    torch.load(tmp_path / "net.pth", weights_only=False)
    assert trace.exists()  # the payload works
    trace.unlink()
    torch.save({"net": nn.Linear(2, 2)}, tmp_path / "whole.t7")
    for protocol in (2, 4):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps(Payload(trace), protocol=protocol))

    result = start(tmp_path / "net.pth", *rest)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    messages = {name: refusal(script, tmp_path / name, *rest) for name in ("net.pth", "whole.t7", "2.pkl", "4.pkl")}
    assert result.stderr.strip() == messages["net.pth"]
    for name, message in messages.items():
        assert message.startswith(str(tmp_path / name))
        assert "Nothing of it was run" in message
        assert "torch.save(net.state_dict(), 'weights.pth')" in message
        if name != "4.pkl":  # of a protocol that torch does not write, not even the names are read
            assert "is refused: it holds more than tensors" in message
    assert "to read it would call torch.nn.modules.linear.Linear" in messages["whole.t7"]
    assert not trace.exists()


def test_numpys_own_code_is_not_called_for_the_numbers_of_a_checkpoint(tmp_path, script):
    """An object dtype would make NumPy take any bytes for a pointer; here they are dropped."""
    torch.save({"net": {"a": torch.zeros(1)}, "acc": np.float64(93.5)}, tmp_path / "ckpt.pth")
    assert type(script.read(tmp_path / "ckpt.pth")["acc"]) is script.NumPyNumber


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_missing_and_empty_files_are_refused(small, tmp_path, script, suffix):
    path, rest = tmp_path / f"ckpt{suffix}", [*small[1], "--out", tmp_path / "out"]
    assert "cannot be read" in refusal(script, path, *rest)
    save = {".pth": torch.save, ".safetensors": save_file}[suffix]
    save(small[0].state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", b"<!DOCTYPE html>", whole[: len(whole) // 2], whole[:-200], whole[200:]):
        path.write_bytes(content)
        message = refusal(script, path, *rest)
        assert str(path) in message
        assert "it is damaged, or neither of torch.save nor safetensors" in message
    path.unlink()
    path.mkdir()
    assert "cannot be read" in refusal(script, path, *rest)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {}, {"net": {}}, torch.zeros(2), {"acc": 1.0}], ids=str)
def test_a_file_without_a_state_dict_is_refused(small, tmp_path, script, content):
    torch.save(content, tmp_path / "x.pt")
    message = refusal(script, tmp_path / "x.pt", *small[1], "--out", tmp_path / "out")
    assert "holds no tensors under names; save the network's state_dict()" in message


def test_a_dictionary_that_holds_itself_ends_in_a_refusal(small, tmp_path, script):
    content = {"acc": 1.0}
    content["self"] = content
    torch.save(content, tmp_path / "x.pt")
    assert "holds no tensors" in refusal(script, tmp_path / "x.pt", *small[1], "--out", tmp_path / "out")


def test_names_of_the_classes_are_as_many_as_the_outputs(small, tmp_path, script):
    torch.save(small[0].state_dict(), tmp_path / "x.pt")
    rest = [tmp_path / "x.pt", *small[1], "--out", tmp_path / "out", "--classes", "a", "b"]
    assert "2 --classes for 10 outputs; give a name for each" in refusal(script, *rest)


def test_letters_that_are_no_network_are_refused_as_the_library_does(small, tmp_path, script):
    torch.save(small[0].state_dict(), tmp_path / "x.pt")
    rest = [tmp_path / "x.pt", "--out", tmp_path / "out", "--model"]
    assert "C (widths)[0]=-3" in refusal(script, *rest, "budget_resnet", "--model-args", letters([-3]))
    assert "has a fixed N" in refusal(script, *rest, "resnet9_cifar", "--model-args", letters([8]))


WRONG = {
    "--model resnet18": "did you mean 'resnet18_cifar'?",
    "--model hf-hub:someone/net": "is unknown",
    '--model-args {"stridez":2}': "unknown option 'stridez'; did you mean 'strides'?",
    '--model-args {"checkpoint_path":"x"}': "unknown option 'checkpoint_path'",
    "--model-args [2]": "not a mapping",
    "--model-args {N:2}": "give JSON such as",
    "--std 51.6 50.8 51.3": "divide those of bytes by 255",
    "--std 0 0.2 0.2": "divide those of bytes by 255",
    "--mean nan 0 0": "divide those of bytes by 255",
    "--out {full}": "already holds something; choose another folder",
    "--out {file}": "already holds something; choose another folder",
}


@pytest.mark.parametrize("options", WRONG)
def test_wrong_options_are_refused_before_anything_is_read(tmp_path, script, capsys, options):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    places = {"{full}": str(tmp_path / "full"), "{file}": str(tmp_path / "full" / "file")}
    given = [places.get(word, word) for word in options.split()]
    with pytest.raises(SystemExit) as caught:
        script.main([str(tmp_path / "none.pt"), "--model", "resnet9_cifar", "--out", str(tmp_path / "out"), *given])
    assert caught.value.code == 2
    assert WRONG[options] in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]


def test_an_empty_folder_is_filled(small, tmp_path, script, capsys):
    torch.save(small[0].state_dict(), tmp_path / "x.pt")
    (tmp_path / "out").mkdir()
    script.main([str(tmp_path / "x.pt"), *small[1], "--out", str(tmp_path / "out"), "--mean", "0", "0", "0"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert "mean (0.0, 0.0, 0.0), std (0.247, 0.2435, 0.2616)" in capsys.readouterr().out
    config = json.loads((tmp_path / "out" / "config.json").read_text())["pretrained_cfg"]
    assert (config["mean"], config["std"]) == ([0.0, 0.0, 0.0], [0.247, 0.2435, 0.2616])
    assert "license: unknown" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_said_of_a_variants_own_weights_is_said_of_the_converted_ones(tmp_path, script, monkeypatch):
    create, own = budgetnets.create, {"tag": "recipe_cifar10", "hf_hub_id": "budgetnets/resnet9_cifar@recipe_cifar10"}

    def create_with_weights(*args, **kwargs):
        model = create(*args, **kwargs)
        model.pretrained_cfg |= own | {"label_names": budgetnets.CIFAR10_CLASSES}
        return model

    torch.save(trained(torchvision_net(torchvision_resnet.BasicBlock, 10)).state_dict(), tmp_path / "x.pt")
    monkeypatch.setattr(budgetnets, "create", create_with_weights)
    classes = [f"class {i}" for i in range(10)]
    rest = ["--model", "resnet9_cifar", "--out", str(tmp_path / "out"), "--classes", *classes]
    script.main([str(tmp_path / "x.pt"), *rest])
    text = (tmp_path / "out" / "config.json").read_text()
    assert not any(word in text for word in ("recipe_cifar10", "hf_hub_id", "airplane", "apache-2.0"))
    assert create(f"local-dir:{tmp_path / 'out'}", pretrained=True).class_names == tuple(classes)
