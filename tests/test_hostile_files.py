"""Files from elsewhere, damaged or malicious, are refused with a clear error, before anything is built or run."""

import json
import os
import pickle
import struct
import tempfile
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from test_weights import NAME, TRAINED, fill_cache

import budgetnets
from budgetnets import (
    WeightsError,
    WeightsIntegrity,
    WeightsMismatch,
    WeightsUnavailable,
    build_resnet,
    save_pretrained,
)

MODEL = build_resnet(2, 1, [4, 6], num_classes=3).eval()
CONTENT = save(MODEL.state_dict())
IMAGES = torch.randn(2, 3, 32, 32)
CASES = int(os.environ.get("BUDGETNETS_FUZZ", 200))  # of each fuzz test


@pytest.fixture
def folder(tmp_path):
    return save_pretrained(MODEL, tmp_path / "net")


class Payload:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


def with_header(header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


DAMAGED = {
    "empty": b"",
    "short header length": b"\x10\x00",
    "truncated header": CONTENT[:100],
    "truncated data": CONTENT[:-10],
    "longer data": CONTENT + b"more",
    "oversize header": struct.pack("<Q", 2**62) + b"{",
    "header is no JSON": with_header(b"not json at all"),
    "header is a list": with_header([]),
    "offsets outside": with_header({"head.bias": {"dtype": "F32", "shape": [3], "data_offsets": [0, 10**12]}}),
    "HTML": b"<!DOCTYPE html><html><body>Sign in</body></html>",
}


@pytest.mark.parametrize("create", [budgetnets.create, timm.create_model])
@pytest.mark.parametrize("num_classes", [3, 7])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused_with_its_place(folder, damage, num_classes, create):
    (folder / "model.safetensors").write_bytes(DAMAGED[damage])
    with pytest.raises(WeightsIntegrity, match="no intact safetensors file") as caught:
        create(f"local-dir:{folder}", pretrained=True, num_classes=num_classes)
    assert str(folder) in str(caught.value)
    assert "again" in str(caught.value)


def by_checkpoint_path(name, path):
    return budgetnets.create(name, checkpoint_path=path)  # timm's own builder reads it after ours


def by_overlay(name, path):
    return budgetnets.create(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})


def by_timms_overlay(name, path):
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})


EACH_WAY = pytest.mark.parametrize("load", [by_checkpoint_path, by_overlay, by_timms_overlay])
HTML = DAMAGED["HTML"]


@EACH_WAY
@pytest.mark.parametrize("content", [b"", HTML, CONTENT[:-10]], ids=["empty", "HTML", "truncated"])
@pytest.mark.parametrize("filename", ["net.safetensors", "net.pth"])
def test_a_damaged_file_that_the_caller_names_is_refused_by_its_name(tmp_path, load, content, filename):
    path = tmp_path / filename
    path.write_bytes(content)
    with pytest.raises(WeightsIntegrity, match=r"resnet9_cifar: .*again") as caught:
        load("resnet9_cifar", path)
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch would advise to unpickle what it cannot read


@EACH_WAY
def test_a_file_that_is_not_there_is_named(tmp_path, load):
    with pytest.raises(WeightsUnavailable, match=r"resnet9_cifar: there is no weight file at .*nothing.pth"):
        load("resnet9_cifar", tmp_path / "nothing.pth")


@EACH_WAY
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MODEL.state_dict(), "is not for this network: .* missing names"),
        ({"epoch": 3, "net": MODEL.state_dict()}, "is no state dict: 'epoch' is a int"),
        ({}, "it is empty"),
    ],
    ids=["another network", "a checkpoint of another form", "empty"],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, load, content, message):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(WeightsMismatch, match=f"resnet9_cifar.*{message}"):
        load("resnet9_cifar", tmp_path / "net.pth")


def test_a_checkpoint_with_other_classes_is_refused(tmp_path):
    torch.save(timm.create_model("seresnet20_cifar").state_dict(), tmp_path / "net.pth")
    with pytest.raises(WeightsMismatch, match=r"net.pth: head.\w+ has shape \(10,"):
        budgetnets.create("seresnet20_cifar", num_classes=5, checkpoint_path=tmp_path / "net.pth")


@pytest.mark.parametrize("create", [budgetnets.create, timm.create_model])
def test_a_folder_without_a_readable_weight_file_says_which(folder, create):
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsUnavailable, match=f"there is no weight file at {folder}"):
        create(f"local-dir:{folder}", pretrained=True)
    (folder / "net.pth").write_bytes(b"")
    with pytest.raises(WeightsIntegrity, match=str(folder)):
        create(f"local-dir:{folder}", pretrained=True)


@pytest.mark.parametrize("create", [budgetnets.create, timm.create_model])
@pytest.mark.parametrize("offline", [True, False])
def test_a_damaged_cache_that_cannot_be_healed_offline_is_named(tmp_path, monkeypatch, create, offline):
    monkeypatch.setenv("BUDGETNETS_WEIGHTS", "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    options = {"cache_dir": str(tmp_path)} | ({} if offline else {"local_files_only": True})
    cached = fill_cache(tmp_path, *TRAINED[0])
    create(NAME, pretrained=True, **options)
    cached.write_bytes(cached.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsIntegrity) as caught:
        create(NAME, pretrained=True, **options)
    for part in (f"{NAME}.{TRAINED[0][1].tag}", str(cached), "Delete it", "HF_HUB_OFFLINE"):
        assert part in str(caught.value)


@pytest.mark.parametrize("create", [budgetnets.create, timm.create_model])
def test_a_pickle_under_the_name_of_safetensors_is_never_unpickled(folder, tmp_path, create):
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(Payload(str(trace))))
    assert trace.exists()  # the payload works
    trace.unlink()
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload(str(trace))))
    with pytest.raises(WeightsIntegrity):
        create(f"local-dir:{folder}", pretrained=True)
    assert not trace.exists()


@pytest.mark.parametrize("num_classes", [3, 7])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem.norm.bias": torch.full((4,), float("inf"))}, "not finite"),
        ({"stem.norm.bias": torch.zeros(4, dtype=torch.int32)}, "torch.int32"),
        ({"stem.norm.bias": torch.zeros(4).to(torch.float8_e5m2)}, "float8"),
        ({"stem.norm.bias": torch.zeros(2, 2)}, r"shape \(2, 2\)"),
        ({"another": torch.zeros(1)}, "1 unexpected names"),
    ],
)
def test_an_intact_file_for_another_network_is_refused(folder, change, message, num_classes):
    (folder / "model.safetensors").write_bytes(save(MODEL.state_dict() | change))
    with pytest.raises(WeightsMismatch, match=message):
        timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=num_classes)


HOSTILE = [
    ({"C": [10_000_000, 4]}, ValueError, "out of range"),
    ({"C": [65_536, 65_536], "B": [1000, 1000]}, ValueError, "over max_params"),
    ({"C": [[4], [6]]}, TypeError, "must be an integer"),
    ({"C": "46"}, TypeError, "C"),
    ({"N": 10**12}, ValueError, "N="),
    ({"N": "2"}, TypeError, "N='2'"),
    ({"B": [1, 1.5]}, TypeError, "1.5"),
    ({"input_size": 10**9}, ValueError, "input_size"),
    ({"se_reduction": 0}, ValueError, "se_reduction"),
    ({"drop_rate": "0.1"}, TypeError, "drop_rate"),
    ({"P": -4}, ValueError, "P"),
    ({"act": "__import__"}, ValueError, "act="),
    ({"unknown_key": 1}, TypeError, "unknown option 'unknown_key'"),
    ({"num_classes": 10**12}, ValueError, "num_classes"),
]


@pytest.mark.parametrize(("change", "error", "message"), HOSTILE, ids=[str(row[0]) for row in HOSTILE])
def test_a_hostile_configuration_is_refused_before_anything_is_allocated(folder, change, error, message):
    config = json.loads((folder / "config.json").read_text())
    config["model_args"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=message):
        timm.create_model(f"local-dir:{folder}", pretrained=True)


def test_a_rate_beyond_all_floats_is_out_of_range():
    with pytest.raises(ValueError, match=r"drop_rate=10+ is out of range; use a number from 0 to 1"):
        build_resnet(2, 1, 4, drop_rate=10**400)


BROKEN = {
    "no JSON": ("{bad", "JSONDecodeError"),
    "nested too deep": ("[" * 100_000, "RecursionError"),
    "no object": ("[]", "TypeError"),
    "empty": ("{}", "architecture"),
    "no name": ('{"architecture": 5, "pretrained_cfg": {}}', "architecture=5 is none of timm's"),
    "unknown name": ('{"architecture": "resnet9", "pretrained_cfg": {}}', "architecture='resnet9' is none of timm's"),
    "no configuration": ('{"architecture": "budget_resnet", "pretrained_cfg": 1}', "int"),
    "short input size": ('{"architecture": "budget_resnet", "pretrained_cfg": {"input_size": [3]}}', "input_size="),
    "unknown key": ('{"architecture": "budget_resnet", "pretrained_cfg": {"zzz": 1}}', "zzz"),
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_broken_configuration_is_refused_with_its_place(folder, fault, pretrained):
    text, message = BROKEN[fault]
    (folder / "config.json").write_text(text)
    with pytest.raises(WeightsIntegrity, match=message) as caught:
        budgetnets.create(f"local-dir:{folder}", pretrained=pretrained)
    assert str(folder / "config.json") in str(caught.value)
    assert "again" in str(caught.value)


def test_a_folder_without_a_configuration_says_so(tmp_path):
    with pytest.raises(WeightsUnavailable, match=f"there is no {tmp_path / 'config.json'}; give a folder"):
        budgetnets.create(f"local-dir:{tmp_path}")


@given(st.integers(0, len(CONTENT) - 1), st.binary(min_size=1, max_size=8))
@settings(max_examples=CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_of_bytes_loads_a_whole_network_or_is_refused(at, change):
    """Without a pinned hash a changed value cannot be told; a changed structure can, and nothing else may happen."""
    content = CONTENT[:at] + change + CONTENT[at + len(change) :]
    with tempfile.TemporaryDirectory() as name:
        folder = save_pretrained(MODEL, name)
        (folder / "model.safetensors").write_bytes(content)
        try:
            model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        except WeightsError:
            return
        assert all(torch.isfinite(t).all() for t in model.state_dict().values())
        assert model.state_dict().keys() == MODEL.state_dict().keys()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(MODEL._model_args)), JSON)
@settings(max_examples=CASES)
def test_any_value_in_a_configuration_builds_that_network_or_is_refused(key, value):
    arguments = MODEL._model_args | {key: value}
    try:
        model = timm.create_model("budget_resnet", **arguments)
    except (TypeError, ValueError):
        return
    built = model.spec.to_dict()
    assert value is None or built[key] == value or set(built[key]) == {value}
