"""An ONNX file computes what its network does, says what it is, and is there whole or not at all."""

import builtins
import contextlib
import json
import logging
import os
import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
import torch
from exported import PHOTOS, close, logits, metadata, normalized, session, small
from PIL import Image
from torch.nn.utils import prune

import budgetnets
from budgetnets import CIFAR10_MEAN, build_resnet, export_onnx
from budgetnets.export import _write
from budgetnets.onnx_graph import ExportError, quiet
from budgetnets.quantization import generated_images
from budgetnets.variants import VARIANTS

IN_BUDGET = [row.name for row in VARIANTS.values() if row.in_budget]


@pytest.mark.parametrize(
    "name", [n if n == "resnet9_cifar" else pytest.param(n, marks=pytest.mark.slow) for n in IN_BUDGET]
)
def test_a_variant_gives_the_same_logits_from_its_file_in_onnx_runtime_and_openvino(name, tmp_path):
    model = budgetnets.create(name).eval()
    report = export_onnx(model, tmp_path / "net.onnx")
    assert (report.path, report.bytes) == (tmp_path / "net.onnx", (tmp_path / "net.onnx").stat().st_size)
    assert report.largest_difference <= 1e-4
    assert report.agreement == 100
    with torch.inference_mode():
        expected = model(normalized(PHOTOS))
    assert close(logits(report.path, PHOTOS), expected)

    import openvino

    compiled = openvino.Core().compile_model(report.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert close(torch.from_numpy(compiled([PHOTOS.numpy()])[0]), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"se": "block", "act": "elu"},
        {"block": "bottleneck", "K": 3},
        {"norm": "groupnorm", "P": 4, "C": [32, 64, 96]},
        {"input_size": 24, "num_classes": 3},
        {"num_classes": 0},
    ],
)
def test_any_network_of_the_family_can_be_exported(options, tmp_path):
    model = build_resnet(3, 1, options.pop("C", [8, 12, 16]), **options).eval()
    images = generated_images(20, 3, model.spec.input_size)
    report = export_onnx(model, tmp_path / "net.onnx")
    with torch.inference_mode():
        assert close(logits(report.path, images), model(normalized(images)))


def test_the_file_takes_any_batch_or_exactly_one(tmp_path):
    export_onnx(small(), tmp_path / "any.onnx")
    for n in (1, 3, 40):
        assert logits(tmp_path / "any.onnx", PHOTOS[:n]).shape == (n, 10)
    export_onnx(small(), tmp_path / "one.onnx", dynamic_batch=False)
    assert session(tmp_path / "one.onnx").get_inputs()[0].shape == [1, 3, 32, 32]
    assert close(logits(tmp_path / "one.onnx", PHOTOS[:1]), logits(tmp_path / "any.onnx", PHOTOS[:1]))


def test_without_normalization_the_file_takes_what_the_network_takes(tmp_path):
    model = small(in_chans=2)  # its mean and std are of three channels
    with pytest.raises(ValueError, match="normalize=True needs mean and std of the network's 2 channels"):
        export_onnx(model, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="int8 needs mean and std of the network's 2 channels"):
        export_onnx(model, tmp_path / "net.onnx", int8=True, calibration=PHOTOS[:, :2], normalize=False)
    export_onnx(model, tmp_path / "net.onnx", normalize=False)  # as the message says
    images = torch.randn(3, 2, 32, 32)
    with torch.inference_mode():
        assert close(logits(tmp_path / "net.onnx", images), model(images))
    model = small()
    export_onnx(model, tmp_path / "net.onnx", normalize=False)
    with torch.inference_mode():
        assert close(logits(tmp_path / "net.onnx", normalized(PHOTOS)), model(normalized(PHOTOS)))


def test_the_file_of_a_network_of_one_channel_normalizes_as_its_transform_does(tmp_path):
    model = small(in_chans=1)
    export_onnx(model, tmp_path / "net.onnx")
    grey = PHOTOS[:1, :1]
    picture = Image.fromarray(grey[0, 0].numpy())
    with torch.inference_mode():
        assert close(logits(tmp_path / "net.onnx", grey), model(budgetnets.transforms(model)(picture)[None]))
    assert metadata(tmp_path / "net.onnx")["input"] == "uint8 grey, 0 to 255"


def test_the_file_says_what_it_is(tmp_path):
    model = small(num_classes=2)
    model.class_names = ("cat", "dog")
    export_onnx(model, tmp_path / "net.onnx", opset=np.int64(18))
    said = metadata(tmp_path / "net.onnx")
    assert said["input"] == "uint8 RGB, 0 to 255"
    assert json.loads(said["class_names"]) == ["cat", "dog"]
    assert budgetnets.ResNetSpec.from_dict(json.loads(said["spec"])) == model.spec
    assert tuple(json.loads(said["mean"])) == CIFAR10_MEAN
    assert (said["source"], said["precision"], said["top1"]) == ("a custom network", "fp32", "unknown")
    assert onnx.load(tmp_path / "net.onnx").opset_import[0].version == 18


BAD_ARGUMENTS = [
    ({"model_or_name": "resnet9_cifa"}, ValueError, "did you mean 'resnet9_cifar'"),
    ({"model_or_name": torch.nn.Linear(2, 2)}, TypeError, "is a Linear; give a variant's name, or a network"),
    ({"opset": 12}, ValueError, "opset=12 is out of range; use 18 to 23"),
    ({"opset": "18"}, TypeError, "opset='18' must be an integer"),
    ({"path": "missing/net.onnx"}, FileNotFoundError, "there is no folder"),
    ({"path": "."}, IsADirectoryError, "is a folder; give the file's name"),
    ({"path": "/proc/net.onnx"}, OSError, "cannot be written"),
]


@pytest.mark.parametrize(("changed", "error", "message"), BAD_ARGUMENTS)
def test_wrong_arguments_get_a_clear_error_and_leave_nothing(changed, error, message, tmp_path):
    arguments = {"model_or_name": small(), "path": "net.onnx"} | changed
    with pytest.raises(error, match=message):
        export_onnx(arguments.pop("model_or_name"), tmp_path / arguments.pop("path"), **arguments)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"the old file")
    code = (
        "import resource, signal, budgetnets\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "net = budgetnets.build_resnet(1, 1, 64)\n"
        "from budgetnets import export\n"
        "graph = export.export_graph(export.WithNormalization(net.eval(), True))\n"  # torch itself writes files
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "from pathlib import Path\n"
        "export._write(Path('net.onnx'), graph.SerializeToString())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "cannot be written" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_bytes() == b"the old file"


def test_files_written_to_one_path_at_the_same_time_do_not_meet(tmp_path, monkeypatch):
    replace = os.replace

    def while_another_writes(source, target):
        monkeypatch.setattr(os, "replace", replace)
        _write(tmp_path / "net.onnx", b"another's")
        replace(source, target)

    monkeypatch.setattr(os, "replace", while_another_writes)
    _write(tmp_path / "net.onnx", b"the last")
    assert (tmp_path / "net.onnx").read_bytes() == b"the last"
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "models" / "net.onnx")
    for content in (b"first", b"second"):
        _write(tmp_path / "link.onnx", content)
        assert (tmp_path / "link.onnx").is_symlink()
        assert (tmp_path / "models" / "net.onnx").read_bytes() == content


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no file but a device or the like"):
        export_onnx(small(), tmp_path / "pipe")


@pytest.mark.parametrize(("name", "written"), [("n" * 250 + ".onnx", True), ("n" * 256, False), ("a\0b", False)])
def test_any_name_that_the_system_takes_is_written_and_others_are_refused_at_once(name, written, tmp_path, monkeypatch):
    if not written:
        monkeypatch.setattr(budgetnets.export, "export_graph", None)  # not reached
    with contextlib.nullcontext() if written else pytest.raises(OSError, match="cannot be written"):
        export_onnx(small(), tmp_path / name)
    assert len(list(tmp_path.iterdir())) == written


def test_a_network_with_masked_weights_is_told_how_to_make_them_final(tmp_path):
    model = small()
    prune.l1_unstructured(model.stem.conv, "weight", 0.5)
    for make in (
        lambda: export_onnx(model, tmp_path / "net.onnx"),
        lambda: budgetnets.optimize_for_inference(model),
        lambda: budgetnets.save_pretrained(model, tmp_path / "folder"),
    ):
        with pytest.raises(ValueError, match=r"torch\.nn\.utils\.prune\.remove\(module, 'weight'\)"):
            make()
    prune.remove(model.stem.conv, "weight")
    assert export_onnx(model, tmp_path / "net.onnx").agreement == 100


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "any").touch()
    _write(tmp_path / "net.onnx", b"a file")
    assert (tmp_path / "net.onnx").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_exports_that_overlap_leave_the_logs_as_they_were():
    entered, leave = threading.Event(), threading.Event()

    def another():
        with quiet():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=another)
    before = logging.root.manager.disable
    with quiet():
        thread.start()
        assert not entered.wait(0.2)
    leave.set()
    thread.join()
    assert entered.is_set()
    assert logging.root.manager.disable == before


def test_a_network_that_torch_cannot_export_says_so(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x  # which way depends on the images

    model = small()
    model.head_drop = Odd()
    with pytest.raises(ExportError, match="torch's exporter refuses the network at opset 20"):
        export_onnx(model, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("logit", "said"),
    [(float("nan"), "the network's logits are not finite"), (1e-3, "the file's logits differ from the network's by")],
)
def test_a_file_whose_logits_are_not_the_networks_is_not_written(logit, said, tmp_path):
    class Elsewhere(torch.nn.Module):
        def forward(self, x):
            return x + logit if torch.onnx.is_in_onnx_export() or logit != logit else x

    model = small()
    model.head_drop = Elsewhere()
    with pytest.raises(ExportError, match=said):
        export_onnx(model, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_of_ones_own_is_exported_by_the_name_of_its_folder(tmp_path):
    model = small()
    budgetnets.save_pretrained(model, tmp_path / "mine")
    export_onnx(f"local-dir:{tmp_path / 'mine'}", tmp_path / "net.onnx")
    with torch.inference_mode():
        assert close(logits(tmp_path / "net.onnx", PHOTOS), model(normalized(PHOTOS)))


def test_without_the_extra_the_message_gives_the_command(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError("no", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r'needs onnxruntime, .* pip install "budgetnets\[onnx\]"'):
        export_onnx(small(), tmp_path / "net.onnx")


def test_calibration_images_without_int8_are_refused_and_not_ignored(tmp_path):
    with pytest.raises(ValueError, match="calibration is for int8; give int8=True"):
        export_onnx(small(), tmp_path / "net.onnx", calibration=PHOTOS)
    assert not list(tmp_path.iterdir())
