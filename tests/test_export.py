"""An ONNX file computes what its network does, says what it is, and is there whole or not at all."""

import builtins
import json
import logging
import os
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

import budgetnets
from budgetnets import CIFAR10_CLASSES, CIFAR10_MEAN, CIFAR10_STD, build_resnet, export_onnx
from budgetnets.export import _write
from budgetnets.onnx_graph import INPUT, ExportError, WithNormalization, export_graph, quiet
from budgetnets.quantization import generated_images, measure_ranges, read_int8_card
from budgetnets.variants import VARIANTS

PHOTOS = generated_images(40, 3, 32)
IN_BUDGET = [row.name for row in VARIANTS.values() if row.in_budget]
QUANTIZED = [f"{row.name}.{w.tag}" for row in VARIANTS.values() for w in row.weights if read_int8_card(row, w)]


def small(**options):
    torch.manual_seed(0)
    return build_resnet(3, [1, 2, 1], [8, 12, 16], **options).eval()


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def logits(path, images):
    return torch.from_numpy(session(path).run(None, {"images": images.numpy()})[0])


def normalized(images):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CIFAR10_MEAN, CIFAR10_STD))
    return (images.float() / 255 - mean) / std


def close(found, expected):
    return (found - expected).abs().max() <= 1e-4 * expected.abs().max()


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


def metadata(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_the_file_says_what_it_is(tmp_path):
    model = small(num_classes=2)
    model.class_names = ("cat", "dog")
    export_onnx(model, tmp_path / "net.onnx", opset=18)
    said = metadata(tmp_path / "net.onnx")
    assert said["input"] == "uint8 RGB, 0 to 255"
    assert json.loads(said["class_names"]) == ["cat", "dog"]
    assert budgetnets.ResNetSpec.from_dict(json.loads(said["spec"])) == model.spec
    assert tuple(json.loads(said["mean"])) == CIFAR10_MEAN
    assert (said["source"], said["precision"], said["top1"]) == ("a custom network", "fp32", "unknown")
    assert onnx.load(tmp_path / "net.onnx").opset_import[0].version == 18


def test_int8_is_smaller_agrees_and_keeps_the_network_as_it_was(tmp_path):
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = export_onnx(model, tmp_path / "net.onnx", int8=True, calibration=PHOTOS)
    assert report.int8
    assert report.agreement >= 85  # of 8 images, by a network that knows nothing
    assert report.largest_difference < 0.1
    assert "8 held-out calibration images" in str(report)
    types = {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= types
    stored = {init.data_type for init in onnx.load(tmp_path / "net.onnx").graph.initializer if len(init.dims) == 4}
    assert onnx.TensorProto.INT8 in stored
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("se", "means"), [(None, 1), ("block", 5), ("stem", 2)])
def test_int8_leaves_no_map_in_floats_when_onnx_runtime_has_fused_it(se, means, tmp_path):
    export_onnx(small(se=se), tmp_path / "net.onnx", int8=True, calibration=PHOTOS)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(tmp_path / "net.onnx", options, providers=["CPUExecutionProvider"])
    count = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    assert count["ReduceMean"] == 0
    assert count["QLinearGlobalAveragePool"] == means
    assert (count["QuantizeLinear"], count["DequantizeLinear"]) == (1, 1)  # of the image, and of the logits


@pytest.mark.parametrize("se", [None, "block"])
def test_openvino_gives_nearly_the_same_logits_from_an_int8_file(se, tmp_path):
    import openvino

    report = export_onnx(small(se=se), tmp_path / "net.onnx", int8=True, calibration=PHOTOS)
    compiled = openvino.Core().compile_model(report.path, "CPU")
    found, expected = torch.from_numpy(compiled([PHOTOS.numpy()])[0]), logits(report.path, PHOTOS)
    assert (found - expected).abs().max() <= 0.02 * expected.abs().max()  # it rounds elsewhere


def test_calibration_comes_from_an_array_a_loader_or_a_folder_with_the_same_result(tmp_path):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for i, photo in enumerate(PHOTOS):
        Image.fromarray(photo.permute(1, 2, 0).numpy()).save(tmp_path / "photos" / "a" / f"{i:02}.png")
    loader = torch.utils.data.DataLoader(list(zip(PHOTOS, range(40), strict=True)), batch_size=7)
    sources = {"tensor": PHOTOS, "array": PHOTOS.numpy(), "loader": loader, "folder": tmp_path / "photos"}
    model = small()
    for name, source in sources.items():
        export_onnx(model, tmp_path / f"{name}.onnx", int8=True, calibration=source)
    contents = {(tmp_path / f"{name}.onnx").read_bytes() for name in sources}
    assert len(contents) == 1


BAD_CALIBRATION = [
    (None, ValueError, "a custom network has no card; give calibration="),
    (normalized(PHOTOS), TypeError, r"dtype torch.float32; give uint8 images \(n, 3, 32, 32\)"),
    (PHOTOS.permute(0, 2, 3, 1), ValueError, "the channels are last"),
    (PHOTOS[:, :1], ValueError, r"shape \[40, 1, 32, 32\]"),
    (PHOTOS[0], ValueError, r"shape \[3, 32, 32\]"),
    (PHOTOS[:5], ValueError, "5 images; give at least 16"),
    (torch.tensor(3, dtype=torch.uint8), ValueError, r"shape \[\]; give uint8 images"),
    ([], ValueError, "0 images"),
    ([()], TypeError, "holds a tuple; give uint8 images"),
    ([[]], TypeError, "holds a list"),
    ([["cat.png"]], TypeError, "holds a str"),
    ([Image.new("RGB", (32, 32))], TypeError, "holds a Image; give uint8 images"),
    (3, TypeError, "calibration is a int"),
    ({"images": PHOTOS}, TypeError, "calibration is a dict"),
    ("no/such/folder", FileNotFoundError, "'no/such/folder' is not a folder"),
]


@pytest.mark.parametrize(("calibration", "error", "message"), BAD_CALIBRATION)
def test_calibration_of_another_kind_gets_a_clear_error_and_leaves_nothing(calibration, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_onnx(small(), tmp_path / "net.onnx", int8=True, calibration=calibration)
    assert not list(tmp_path.iterdir())


BAD_ARGUMENTS = [
    ({"model_or_name": "resnet9_cifa"}, ValueError, "did you mean 'resnet9_cifar'"),
    ({"model_or_name": torch.nn.Linear(2, 2)}, TypeError, "is a Linear; give a variant's name, or a network"),
    ({"opset": 12}, ValueError, "opset=12 is not offered; use 18 to 23"),
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
    ("logit", "said"), [(float("nan"), "are not finite"), (1e-3, "the file's logits differ from the network's by")]
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


def test_an_unreadable_calibration_image_is_named(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(PHOTOS[i].permute(1, 2, 0).numpy()).save(folder / f"{i:02d}.png")
    bad = folder / "07.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"07\.png cannot be read as an image .*; repair it or take it out"):
        export_onnx(small(), tmp_path / "net.onnx", int8=True, calibration=folder)


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


@pytest.mark.parametrize(
    "name", [n if n.startswith("resnet9") else pytest.param(n, marks=pytest.mark.slow) for n in QUANTIZED]
)
def test_a_named_variant_needs_no_calibration(name, tmp_path):
    report = export_onnx(name, tmp_path / "net.onnx", int8=True)
    row, weights = budgetnets.card(name), budgetnets.card(name).weights
    card = read_int8_card(VARIANTS[row.name], weights)
    assert report.top1 == card.top1 >= weights.top1 - 0.2
    assert report.bytes < 0.3 * 4 * row.params
    said = {entry.key: entry.value for entry in onnx.load(report.path).metadata_props}
    assert json.loads(said["class_names"]) == list(CIFAR10_CLASSES)
    assert weights.sha256 in said["source"]


@pytest.mark.slow
@pytest.mark.parametrize("name", QUANTIZED)
def test_a_named_variant_in_int8_may_take_normalized_images(name, tmp_path):
    raw = export_onnx(name, tmp_path / "raw.onnx", int8=True)
    report = export_onnx(name, tmp_path / "normalized.onnx", int8=True, normalize=False)
    assert report.top1 == raw.top1
    found, expected = logits(report.path, normalized(PHOTOS)), logits(raw.path, PHOTOS)
    assert (found - expected).abs().max() <= 0.02 * expected.abs().max()
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_the_names_on_a_card_are_those_of_the_graph_without_normalization():
    raw, plain = (
        {node.name: node.op_type for node in export_graph(WithNormalization(small(se="block"), normalize)).graph.node}
        for normalize in (True, False)
    )
    assert "mul1" in plain
    assert raw.items() - plain.items() == {("cast0", "Cast"), ("mul0", "Mul"), ("sub0", "Sub")}
    assert plain.items() <= raw.items()


def test_ranges_are_measured_in_the_order_of_the_graph_each_time():
    net = WithNormalization(small(se="block"), True)
    graph = export_graph(net)
    first, second = (list(measure_ranges(graph, generated_images(16, *net.size)).items()) for _ in range(2))
    tensors = [INPUT, *(output for node in graph.graph.node for output in node.output)]
    assert first == second
    assert [tensors.index(name) for name, _ in first] == sorted(tensors.index(name) for name, _ in first)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUANTIZED)
def test_int8_reaches_the_accuracy_on_its_card(name, tmp_path, cifar10):
    report = export_onnx(name, tmp_path / "net.onnx", int8=True)
    test = CIFAR10(cifar10, train=False)
    images = torch.from_numpy(np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)))
    found = torch.cat([logits(report.path, batch).argmax(1) for batch in images.split(500)])
    top1 = 100 * (found == torch.tensor(test.targets)).double().mean().item()
    assert top1 == pytest.approx(report.top1, abs=0.1)  # processors add in other orders
    assert top1 >= budgetnets.card(name).top1 - 0.2
