"""What the weights do: on a photograph, on the real test set, and through the transforms that belong to them."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import budgetnets
from budgetnets.variants import VARIANTS
from budgetnets.verification import Verification, calibration_error, predict, read_test_set

TRAINED = [f"{row.name}.{card.tag}" for row in VARIANTS.values() for card in row.weights]


def test_the_photograph_of_a_cat_is_a_cat():
    data = pytest.importorskip("skimage.data", reason="the photograph is in scikit-image's wheel")
    model = budgetnets.create("resnet9_cifar", pretrained=True)
    batch = budgetnets.transforms("resnet9_cifar")(Image.fromarray(data.cat())).unsqueeze(0)
    with torch.inference_mode():
        probabilities = model(batch).softmax(1)[0]
    assert model.class_names[int(probabilities.argmax())] == "cat"
    assert probabilities.max() > 0.5


@pytest.mark.parametrize("name", TRAINED)
def test_some_real_test_images_are_classified_nearly_as_listed(name, cifar10):
    images, labels = read_test_set(cifar10)
    card = budgetnets.card(name)
    weights = card.weights
    model = budgetnets.create(name, pretrained=True)
    logits = predict(model, images[:300], weights.mean, weights.std, progress=False)
    correct = int((logits.argmax(1) == labels[:300]).sum())
    assert correct / 3 == pytest.approx(card.top1, abs=4.5)  # three standard deviations of 300 images


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TRAINED)
def test_the_test_set_is_classified_as_listed_and_with_its_mirror_images_too(name, cifar10):
    images, labels = read_test_set(cifar10)
    assert len(labels) == 10_000
    weights = budgetnets.card(name).weights
    model = budgetnets.create(name, pretrained=True)
    logits = predict(model, images, weights.mean, weights.std, progress=False)
    mirrored = predict(model, images.flip(3), weights.mean, weights.std, progress=False)
    top1, top1_flip = (100 * (x.argmax(1) == labels).double().mean().item() for x in (logits, (logits + mirrored) / 2))
    assert top1 == pytest.approx(weights.top1, abs=0.02)
    assert top1_flip == pytest.approx(weights.top1_flip, abs=0.02)
    assert top1 > max((run.top1 for run in budgetnets.card(name).reported), default=0), "no better than the report"
    assert calibration_error(logits, labels) == pytest.approx(weights.ece, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", sorted(TRAINED, key=budgetnets.count_macs)[:2])
def test_verify_reproduces_the_listed_accuracy(name, cifar10, flip):
    found = budgetnets.verify(name, cifar10, flip=flip)
    assert isinstance(found, Verification)
    assert found.matches, str(found)
    assert found.total == 10_000
    assert found.sha256 == budgetnets.card(name).weights.sha256
    assert found.listed_top1 == getattr(budgetnets.card(name).weights, "top1_flip" if flip else "top1")
    if not flip:
        assert found.calibration_error == pytest.approx(budgetnets.card(name).weights.ece, abs=0.05)


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy():
    # Ten answers that claim 90 %: with nine right they are calibrated, with four they are 50 points off.
    logits = torch.tensor([[0.9, 0.1]]).log().repeat(10, 1)
    labels = torch.tensor([0] * 9 + [1])
    assert calibration_error(logits, labels) == pytest.approx(0, abs=1e-4)
    assert calibration_error(logits, 1 - labels) == pytest.approx(80, abs=1e-4)
    # Two bins that are off in opposite ways do not cancel.
    mixed = torch.cat([logits, torch.tensor([[0.6, 0.4]]).log().repeat(10, 1)])
    labels = torch.tensor([0] * 8 + [1] * 2 + [0] * 7 + [1] * 3)
    assert calibration_error(mixed, labels) == pytest.approx(10, abs=1e-4)


def test_verify_says_what_is_wrong_with_its_arguments(tmp_path):
    untrained = next(row.name for row in VARIANTS.values() if not row.weights)
    with pytest.raises(budgetnets.WeightsUnavailable, match="nothing to verify"):
        budgetnets.verify(untrained, tmp_path)
    with pytest.raises(ValueError, match="did you mean 'resnet9_cifar'"):
        budgetnets.verify("resnet9", tmp_path)
    with pytest.raises(FileNotFoundError, match="cifar-10-batches-py does not hold"):
        read_test_set(tmp_path)


@pytest.mark.parametrize(("batch_size", "error"), [(0, ValueError), (-5, ValueError), (1.5, TypeError)])
def test_verify_takes_no_batch_of_nothing(tmp_path, batch_size, error):
    with pytest.raises(error, match=f"batch_size={batch_size} "):
        budgetnets.verify(TRAINED[0], tmp_path, batch_size=batch_size)


@pytest.mark.parametrize(
    ("budget", "error"), [("5M", TypeError), (2.5, TypeError), (True, TypeError), (-3, ValueError)]
)
def test_a_budget_that_is_none_lists_nothing_silently(budget, error):
    with pytest.raises(error, match=f"max_params={budget!r} "):
        budgetnets.list_models(max_params=budget)


@pytest.mark.parametrize(("correct", "matches"), [(9348, True), (9352, True), (9347, False), (9353, False)])
def test_two_images_more_or_less_are_another_machines_rounding_and_three_are_not(correct, matches):
    top1 = 100 * correct / 10_000
    assert Verification("x.y", "0" * 64, correct, 10_000, top1, 93.5, 1.0, 1.0).matches == matches


def test_a_verification_that_differs_says_by_how_much():
    found = Verification(
        "x.y", "0" * 64, correct=9300, total=10_000, top1=93.0, listed_top1=93.5, calibration_error=1.0, seconds=1.0
    )
    assert not found.matches
    assert "NOT as listed, -0.50 points" in str(found)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("size", [(32, 32), (40, 64), (8, 20), (451, 300)])
def test_any_picture_becomes_a_normalized_tensor(mode, size):
    image = Image.new("RGB", size, (255, 255, 255)).convert(mode)
    x = budgetnets.transforms("resnet9_cifar")(image)
    assert x.shape == (3, 32, 32)
    white = [(1 - m) / s for m, s in zip(budgetnets.CIFAR10_MEAN, budgetnets.CIFAR10_STD, strict=True)]
    torch.testing.assert_close(x.mean((1, 2)), torch.tensor(white), rtol=1e-3, atol=1e-3)


def test_a_picture_of_the_right_size_is_only_normalized():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    x = budgetnets.transforms("resnet9_cifar")(Image.fromarray(pixels))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (budgetnets.CIFAR10_MEAN, budgetnets.CIFAR10_STD))
    torch.testing.assert_close(x, (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std)


def test_the_mean_and_std_are_the_training_pixels_own(cifar10):
    from torchvision.datasets import CIFAR10

    images, values = CIFAR10(cifar10, train=True).data, np.arange(256) / 255
    for channel, (mean, std) in enumerate(zip(budgetnets.CIFAR10_MEAN, budgetnets.CIFAR10_STD, strict=True)):
        counts = np.bincount(images[..., channel].ravel())  # the pixels as floats would take more than a gigabyte
        found = np.average(values, weights=counts)
        assert found == pytest.approx(mean, abs=5e-4)
        assert np.sqrt(np.average((values - found) ** 2, weights=counts)) == pytest.approx(std, abs=5e-4)


def test_transforms_come_from_a_network_too_and_can_be_pickled():
    model = budgetnets.build_resnet(2, 1, 8, input_size=48)
    transform = pickle.loads(pickle.dumps(budgetnets.transforms(model)))
    assert transform(Image.new("L", (100, 60))).shape == (3, 48, 48)
    with pytest.raises(TypeError, match="no pretrained_cfg"):
        budgetnets.transforms(torch.nn.Linear(1, 1))


def test_a_network_built_for_another_size_gets_its_images_in_that_size(tmp_path):
    picture = Image.new("RGB", (100, 60))
    model = budgetnets.create("seresnet20_cifar", input_size=64)
    assert budgetnets.transforms(model)(picture).shape == (3, 64, 64)
    assert model.pretrained_cfg["pool_size"] == (model.spec.final_size,) * 2
    maps = budgetnets.create("seresnet20_cifar", input_size=64, features_only=True)
    assert budgetnets.transforms(maps)(picture).shape == (3, 64, 64)
    folder = budgetnets.save_pretrained(budgetnets.build_resnet(2, 1, 8), tmp_path)
    larger = budgetnets.create(f"local-dir:{folder}", input_size=64)
    assert budgetnets.transforms(larger)(picture).shape == (3, 64, 64)
    # What the caller says of the images themselves stands.
    said = budgetnets.create("seresnet20_cifar", input_size=64, pretrained_cfg_overlay={"input_size": (3, 56, 56)})
    assert budgetnets.transforms(said)(picture).shape == (3, 56, 56)
