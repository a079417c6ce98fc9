"""Claims about what examples/convert.py refuses: it says what does not fit, runs no code, and writes nothing."""

import pickle
from pathlib import Path

import convert
import numpy as np
import pytest
import torch
from foreign import Basic, Kuangliu, PreActivated, letters, refusal, small_net
from safetensors.torch import save_file
from scripts import refused, start
from torch import nn
from torchvision.models import resnet as torchvision_resnet


@pytest.fixture(scope="module")
def small():
    return small_net()


def test_another_variant_is_refused_with_the_list_and_the_one_that_fits(tmp_path):
    state = Kuangliu(Basic, [3, 4, 6, 3], num_classes=100).state_dict()
    torch.save({"net": state}, tmp_path / "ckpt.pth")
    message = refusal(tmp_path / "ckpt.pth", "--model", "resnet18_cifar", "--out", tmp_path / "out")
    assert message.endswith("these are the shapes of resnet34_cifar; use --model resnet34_cifar")
    lines = message.splitlines()[1:-1]
    assert len(lines) == 96  # 16 - 8 blocks more, of 12 tensors each
    assert "  extra layer4.2.conv1.weight (here stages.3.2.conv1.weight): found (512, 512, 3, 3)" in lines

    old = {name: value for name, value in state.items() if "num_batches" not in name}
    torch.save({"net": old}, tmp_path / "ckpt.pth")
    message = refusal(tmp_path / "ckpt.pth", "--model", "resnet50_cifar", "--out", tmp_path / "out")
    assert "use --model resnet34_cifar" in message
    assert "  missing stages.0.0.conv3.weight: expected (256, 64, 1, 1)" in message
    conv1 = "other shape layer2.0.conv1.weight (here stages.1.0.conv1.weight)"
    assert f"  {conv1}: found (128, 64, 3, 3), expected (128, 256, 1, 1)" in message


def test_networks_that_only_look_alike_are_refused(small, tmp_path):
    """A stem for photographs, norms before the convolutions, a missing statistic, a bias too many."""
    _, options = small
    torch.save(torchvision_resnet.resnet18(num_classes=10).state_dict(), tmp_path / "imagenet.pth")
    message = refusal(tmp_path / "imagenet.pth", "--model", "resnet18_cifar", "--out", tmp_path / "out")
    assert len(message.splitlines()) == 3
    assert "other shape conv1.weight (here stem.conv.weight): found (64, 3, 7, 7), expected (64, 3, 3, 3)" in message
    assert "no variant has these names and shapes; describe the network: --model budget_resnet" in message

    torch.save(Kuangliu(PreActivated, [1, 2, 1, 1], width=8).state_dict(), tmp_path / "early.pth")
    message = refusal(tmp_path / "early.pth", *options, "--out", tmp_path / "out")
    assert "  missing stages.1.0.skip.norm.running_var: expected (16,)" in message
    assert "  other shape layer2.0.bn1.weight (here stages.1.0.norm1.weight): found (8,), expected (16,)" in message

    state = small[0].state_dict() | {"conv1.bias": torch.zeros(8)}
    del state["bn1.running_var"]
    torch.save(state, tmp_path / "biased.pth")
    message = refusal(tmp_path / "biased.pth", *options, "--out", tmp_path / "out")
    assert message.splitlines()[1:-1] == [
        "  missing stem.norm.running_var: expected (8,)",
        "  extra conv1.bias (here stem.conv.bias): found (8,)",
    ]


def test_names_of_no_known_layout_are_listed(small, tmp_path):
    torch.save({"model": {"features.0.weight": torch.zeros(2, 2)}}, tmp_path / "vgg.pth")
    message = refusal(tmp_path / "vgg.pth", *small[1], "--out", tmp_path / "out")
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
def test_tensors_that_are_no_weights_are_refused_by_name(small, tmp_path, case):
    net, options = small
    name, change, message = UNFIT[case]
    state = dict(net.state_dict())
    state[name] = change(state.get(name, torch.zeros(10)))
    torch.save({"net": state}, tmp_path / "ckpt.pth")
    said = refusal(tmp_path / "ckpt.pth", *options, "--out", tmp_path / "out")
    assert message in said
    assert str(tmp_path / "ckpt.pth") in said


class Payload:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(small, tmp_path):
    net, options = small
    trace, rest = tmp_path / "trace", [*options, "--out", tmp_path / "out"]
    torch.save({"net": net.state_dict(), "acc": Payload(trace)}, tmp_path / "net.pth")
    torch.load(tmp_path / "net.pth", weights_only=False)
    assert trace.exists()  # the payload works
    trace.unlink()
    torch.save({"net": nn.Linear(2, 2)}, tmp_path / "whole.t7")
    for protocol in (2, 4):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps(Payload(trace), protocol=protocol))

    said = refused(start("convert.py", tmp_path / "net.pth", *rest))
    messages = {name: refusal(tmp_path / name, *rest) for name in ("net.pth", "whole.t7", "2.pkl", "4.pkl")}
    assert said.strip() == messages["net.pth"]
    for name, message in messages.items():
        assert message.startswith(str(tmp_path / name))
        assert "Nothing of it was run" in message
        assert "torch.save(net.state_dict(), 'weights.pth')" in message
        if name != "4.pkl":  # of a protocol that torch does not write, not even the names are read
            assert "is refused: it holds more than tensors" in message
    assert "to read it would call torch.nn.modules.linear.Linear" in messages["whole.t7"]
    assert not trace.exists()


def test_numpys_own_code_is_not_called_for_the_numbers_of_a_checkpoint(tmp_path):
    """An object dtype would make NumPy take any bytes for a pointer; here they are dropped."""
    torch.save({"net": {"a": torch.zeros(1)}, "acc": np.float64(93.5)}, tmp_path / "ckpt.pth")
    assert type(convert.read(tmp_path / "ckpt.pth")["acc"]) is convert.NumPyNumber


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_missing_and_empty_files_are_refused(small, tmp_path, suffix):
    path, rest = tmp_path / f"ckpt{suffix}", [*small[1], "--out", tmp_path / "out"]
    assert "cannot be read" in refusal(path, *rest)
    save = {".pth": torch.save, ".safetensors": save_file}[suffix]
    save(small[0].state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", b"<!DOCTYPE html>", whole[: len(whole) // 2], whole[:-200], whole[200:]):
        path.write_bytes(content)
        message = refusal(path, *rest)
        assert str(path) in message
        assert "it is damaged, or neither of torch.save nor safetensors" in message
    path.unlink()
    path.mkdir()
    assert "cannot be read" in refusal(path, *rest)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {}, {"net": {}}, torch.zeros(2), {"acc": 1.0}], ids=str)
def test_a_file_without_a_state_dict_is_refused(small, tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    message = refusal(tmp_path / "x.pt", *small[1], "--out", tmp_path / "out")
    assert "holds no tensors under names; save the network's state_dict()" in message


def test_a_dictionary_that_holds_itself_ends_in_a_refusal(small, tmp_path):
    content = {"acc": 1.0}
    content["self"] = content
    torch.save(content, tmp_path / "x.pt")
    assert "holds no tensors" in refusal(tmp_path / "x.pt", *small[1], "--out", tmp_path / "out")


def test_names_of_the_classes_are_as_many_as_the_outputs(small, tmp_path):
    torch.save(small[0].state_dict(), tmp_path / "x.pt")
    rest = [tmp_path / "x.pt", *small[1], "--out", tmp_path / "out", "--classes", "a", "b"]
    assert "2 --classes for 10 outputs; give a name for each" in refusal(*rest)


def test_letters_that_are_no_network_are_refused_as_the_library_does(small, tmp_path):
    torch.save(small[0].state_dict(), tmp_path / "x.pt")
    rest = [tmp_path / "x.pt", "--out", tmp_path / "out", "--model"]
    assert "C (widths)[0]=-3" in refusal(*rest, "budget_resnet", "--model-args", letters([-3]))
    assert "has a fixed N" in refusal(*rest, "resnet9_cifar", "--model-args", letters([8]))


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
def test_wrong_options_are_refused_before_anything_is_read(tmp_path, capsys, options):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    places = {"{full}": str(tmp_path / "full"), "{file}": str(tmp_path / "full" / "file")}
    given = [places.get(word, word) for word in options.split()]
    with pytest.raises(SystemExit) as caught:
        convert.main([str(tmp_path / "none.pt"), "--model", "resnet9_cifar", "--out", str(tmp_path / "out"), *given])
    assert caught.value.code == 2
    assert WRONG[options] in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]
