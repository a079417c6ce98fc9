"""The fast path shows the network what the well-kept transforms would."""

import math
from argparse import Namespace

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

fast_data = pytest.importorskip("fast_data", reason="pip install 'budgetnets[train]'")
cifar = fast_data.cifar

IMAGES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
SMOOTH = torch.nn.functional.interpolate(IMAGES[:, :, :4, :4].float(), size=32, mode="bilinear").to(torch.uint8)


SHEARED = math.degrees(math.atan(0.99 * 0.5))


def apply(name, strength, sign=1, images=SMOOTH):
    op = torch.full((len(images),), fast_data.TRIVIAL_OPS.index(name))
    amounts = torch.full((len(images),), float(strength)), torch.full((len(images),), sign)
    return (fast_data.trivial_augment(images.float() / 255, op, *amounts) * 255).round()


def on_floats(adjust):
    """torchvision's adjustment on floats: on bytes it cuts the grey image off to whole levels."""
    return lambda x, s: (adjust(x.float() / 255, 1 + 0.99 * s) * 255).round()


# torchvision's own operation, with the factor or level that a strength from 0 to 1 means
REFERENCE = {
    "identity": lambda x, s: x,
    "autocontrast": lambda x, s: reference.autocontrast(x),
    "equalize": lambda x, s: reference.equalize(x),
    "solarize": lambda x, s: reference.solarize(x, 255 * (1 - s)),
    "posterize": lambda x, s: reference.posterize(x, 8 - round(6 * s)),
    "color": on_floats(reference.adjust_saturation),
    "contrast": on_floats(reference.adjust_contrast),
    "brightness": on_floats(reference.adjust_brightness),
    "sharpness": on_floats(reference.adjust_sharpness),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("strength", [0.0, 0.3, 0.52, 1.0])
@pytest.mark.parametrize("name", REFERENCE)
def test_a_colour_operation_is_torchvisions_to_rounding(name, strength, sign):
    if name in ("solarize", "posterize") and sign < 0:
        pytest.skip("has no direction")
    ours, theirs = apply(name, strength, sign), REFERENCE[name](SMOOTH, strength * sign).float()
    assert (ours - theirs).abs().max() <= 1


@pytest.mark.parametrize(
    ("name", "strength", "sign", "affine"),
    [
        ("rotate", 90 / 135, 1, {"angle": 90.0}),
        ("rotate", 90 / 135, -1, {"angle": -90.0}),
        ("translate_x", 0.25, 1, {"translate": [-8, 0]}),
        ("translate_y", 0.25, -1, {"translate": [0, 8]}),
        ("shear_x", 0.5, 1, {"shear": [SHEARED, 0.0], "center": [0, 0]}),  # as in torchvision's TrivialAugmentWide
        ("shear_x", 0.5, -1, {"shear": [-SHEARED, 0.0], "center": [0, 0]}),
        ("shear_y", 0.5, 1, {"shear": [0.0, SHEARED], "center": [0, 0]}),
    ],
)
def test_a_geometric_operation_moves_the_pixels_where_torchvision_does(name, strength, sign, affine):
    options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | affine
    theirs = reference.affine(IMAGES, **options, interpolation=InterpolationMode.NEAREST).float()
    ours = apply(name, strength, sign, IMAGES)
    alternatives = [theirs]
    if name == "rotate":  # the two count angles the other way round; the sign is drawn at random anyway
        options["angle"] = -options["angle"]
        alternatives.append(reference.affine(IMAGES, **options, interpolation=InterpolationMode.NEAREST).float())
    assert min((ours - other).abs().mean().item() for other in alternatives) < 1


def loader(own=slice(None), **options):
    args = {"batch_size": 4, "seed": 0, "crop": 4, "flip": "random", "auto_augment": "", "cutout": 0.0} | options
    images = IMAGES.repeat(4, 1, 1, 1)
    return fast_data.FastLoader(images, torch.arange(len(images)), Namespace(**args), own)


def test_every_sample_comes_once_in_an_epoch_and_the_next_epoch_differs():
    first = loader()
    seen = torch.cat([labels for _, labels in first])
    assert sorted(seen.tolist()) == list(range(24))
    first.epoch = 1
    assert torch.cat([labels for _, labels in first]).tolist() != seen.tolist()


def test_without_augmentation_the_images_are_only_normalized():
    for images, labels in loader(crop=0, flip="none"):
        expected = fast_data.normalize(IMAGES[labels % 6].float() / 255)
        torch.testing.assert_close(images, expected)


def test_each_crop_is_a_window_of_the_reflected_image_perhaps_mirrored():
    padded = torch.nn.functional.pad(IMAGES.float(), [4] * 4, mode="reflect")
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1).permute(0, 2, 3, 1, 4, 5).reshape(6, 81, 3, 32, 32)
    for images, labels in loader():
        pixels = images * torch.tensor(fast_data.CIFAR10_STD).view(1, 3, 1, 1)
        pixels = ((pixels + torch.tensor(fast_data.CIFAR10_MEAN).view(1, 3, 1, 1)) * 255).round()
        for image, label in zip(pixels, labels, strict=True):
            candidates = torch.cat([windows[label % 6], windows[label % 6].flip(3)])
            assert (candidates == image).flatten(1).all(1).any()


def test_alternating_mirrors_each_image_in_every_second_epoch():
    data = loader(crop=0, flip="alternating")
    epochs = []
    for epoch in range(3):
        data.epoch = epoch
        batches = list(data)
        order = torch.cat([labels for _, labels in batches]).argsort()
        epochs.append(torch.cat([images for images, _ in batches])[order])
    assert torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[0], epochs[1].flip(3))


def test_processes_see_their_share_of_the_same_batches():
    options = {"auto_augment": "trivial", "cutout": 0.5}
    whole = list(loader(**options))
    shares = [list(loader(slice(rank, None, 2), **options)) for rank in (0, 1)]
    for (images, labels), *parts in zip(whole, *shares, strict=True):
        for rank, (part, part_labels) in enumerate(parts):
            assert torch.equal(part_labels, labels[rank::2])
            torch.testing.assert_close(part, images[rank::2])


def test_images_augmented_many_batches_at_once_are_the_same(monkeypatch):
    options = {"auto_augment": "trivial", "cutout": 0.5}
    one, several = loader(**options), loader(**options)
    several.at_once = 4  # of the six batches
    for (images, labels), (others, same) in zip(one, several, strict=True):
        assert torch.equal(labels, same)
        torch.testing.assert_close(images, others)


def test_a_cut_out_square_has_the_mean_colour_and_is_cut_off_at_the_border():
    x = cifar.cut_out(torch.ones(2, 3, 32, 32), torch.tensor([[16, 16], [0, 31]]), torch.tensor([True, True]))
    assert (x[0, :, 8:24, 8:24] == 0).all()
    assert x[0].sum() == 3 * (1024 - 256)
    assert x[1].sum() == 3 * (1024 - 8 * 9)
