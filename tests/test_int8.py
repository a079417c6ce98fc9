"""An int8 file is small, computes in integers, and answers as its network does, with any way to calibrate it."""

import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported import PHOTOS, logits, normalized, small
from PIL import Image
from torchvision.datasets import CIFAR10

import budgetnets
from budgetnets import CIFAR10_CLASSES, export_onnx, quantization
from budgetnets.onnx_graph import INPUT, ExportError, WithNormalization, export_graph
from budgetnets.quantization import generated_images, int8_card_path, measure_ranges, read_images, read_int8_card
from budgetnets.variants import VARIANTS

QUANTIZED = [f"{row.name}.{w.tag}" for row in VARIANTS.values() for w in row.weights if read_int8_card(row, w)]


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


@pytest.mark.parametrize("act", ["leaky_relu", "relu6", "hardswish", "gelu", "prelu", "tanh"])
def test_a_network_of_another_activation_can_be_quantized(act, tmp_path):
    report = export_onnx(small(act=act), tmp_path / "net.onnx", int8=True, calibration=PHOTOS)
    assert report.largest_difference < 0.2
    count = Counter(node.op_type for node in onnx.load(report.path).graph.node)
    assert (count["GlobalAveragePool"], count["ReduceMean"]) == (1, 0)


def test_weights_that_are_not_finite_are_refused_before_they_are_quantized(tmp_path):
    model = small()
    with torch.no_grad():
        model.stem.conv.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ExportError, match="the network's logits are not finite"):
        export_onnx(model, tmp_path / "net.onnx", int8=True, calibration=PHOTOS)


@pytest.mark.parametrize(
    "config", [{}, None, {"mean": (0.5,) * 3}, {"mean": 0.5, "std": 0.5}, {"mean": (0.5,) * 3, "std": (0, 0, 0)}]
)
def test_a_network_without_usable_mean_and_std_is_told_to_set_them(config, tmp_path):
    model = small()
    model.pretrained_cfg = config
    with pytest.raises(ValueError, match=r"Set model\.pretrained_cfg\['mean'\] and \['std'\]"):
        export_onnx(model, tmp_path / "net.onnx", int8=True, calibration=PHOTOS)


@pytest.mark.filterwarnings("error")
def test_calibration_may_be_flipped_or_read_only():
    array = np.ascontiguousarray(PHOTOS.numpy()[:, ::-1])
    array.setflags(write=False)
    for images in (array, PHOTOS.numpy()[:, ::-1]):
        assert torch.equal(read_images(images, 3, 32), PHOTOS.flip(1))


@pytest.mark.parametrize("se", [None, "block"])
def test_openvino_gives_nearly_the_same_logits_from_an_int8_file(se, tmp_path):
    import openvino

    report = export_onnx(small(se=se), tmp_path / "net.onnx", int8=True, calibration=PHOTOS)
    compiled = openvino.Core().compile_model(report.path, "CPU")
    found, expected = torch.from_numpy(compiled([PHOTOS.numpy()])[0]), logits(report.path, PHOTOS)
    assert (found - expected).abs().max() <= 0.02 * expected.abs().max()  # it rounds elsewhere


@pytest.mark.slow
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
    ("", TypeError, "calibration is an empty string"),
    ("no/such/folder", FileNotFoundError, "'no/such/folder' is not a folder"),
]


@pytest.mark.parametrize(("calibration", "error", "message"), BAD_CALIBRATION)
def test_calibration_of_another_kind_gets_a_clear_error_and_leaves_nothing(calibration, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_onnx(small(), tmp_path / "net.onnx", int8=True, calibration=calibration)
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


@pytest.mark.parametrize(
    "name", [n if n.startswith("resnet9") else pytest.param(n, marks=pytest.mark.slow) for n in QUANTIZED]
)
def test_a_named_variant_needs_no_calibration(name, tmp_path):
    report = export_onnx(name, tmp_path / "net.onnx", int8=True)
    row, weights = budgetnets.card(name), budgetnets.card(name).weights
    card = read_int8_card(VARIANTS[row.name], weights)
    assert report.top1 == card.top1 >= weights.top1 - 0.2
    assert report.agreement == card.agreement > 98
    assert "of the test images, as its card has it" in str(report)
    assert report.bytes < 0.3 * 4 * row.params + 40_000  # the graph itself has some bytes, whatever the weights
    said = {entry.key: entry.value for entry in onnx.load(report.path).metadata_props}
    assert json.loads(said["class_names"]) == list(CIFAR10_CLASSES)
    assert weights.sha256 in said["source"]


@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        (lambda text: text[: len(text) // 2], budgetnets.WeightsIntegrity, "is damaged .* Reinstall it"),
        (lambda text: text.replace('"ranges"', '"rangs"'), budgetnets.WeightsIntegrity, "KeyError: 'ranges'"),
        (lambda text: widened(text, 10), ExportError, "card of ranges"),
    ],
)
def test_a_card_that_is_damaged_or_does_not_fit_writes_nothing(damage, error, said, tmp_path, monkeypatch):
    row = VARIANTS["budgetnet_100k_cifar"]
    path = tmp_path / "card.json"
    path.write_text(damage(int8_card_path(row, row.weights[0]).read_text()))
    monkeypatch.setattr(quantization, "int8_card_path", lambda row, weights: path)
    with pytest.raises(error, match=said):
        export_onnx(row.name, tmp_path / "net.onnx", int8=True)
    assert not (tmp_path / "net.onnx").exists()


def widened(text, times):
    card = json.loads(text)
    card["ranges"] = {name: (times * low, times * high) for name, (low, high) in card["ranges"].items()}
    return json.dumps(card)


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
