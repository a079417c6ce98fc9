"""Claims about the images that the reference training shows its network, by both of its data paths."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.transforms.v2 import functional as reference
from training import TINY, cifar, fast_data, run, train, words

import budgetnets

pytestmark = pytest.mark.usefixtures("train_in_process")


def loaders(module, *options):
    """What a data module gives for noise images, without Accelerate."""
    args = train.parse_args(words(*options, "--data fake --limit 40 --batch-size 8 --workers 0 --out nowhere"))
    alone = SimpleNamespace(prepare=lambda *all_: all_, device=torch.device("cpu"), process_index=0, num_processes=1)
    return module.make_loaders(args, alone)


def all_images(loader):
    return torch.cat([images for images, _ in loader])


PATHS = pytest.mark.parametrize("module", [cifar, fast_data], ids=lambda module: module.__name__)


@PATHS
def test_the_images_are_normalized_as_asked_for(module):
    pixels = all_images(loaders(module, "--mean 0,0,0 --std 1,1,1")[3])
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    both = [budgetnets.CIFAR10_MEAN, (0.2023, 0.1994, 0.2010)]
    widespread = all_images(loaders(module, "--recipe R3-18")[3])
    torch.testing.assert_close(widespread, reference.normalize(pixels, *both))
    both[1] = budgetnets.CIFAR10_STD
    torch.testing.assert_close(all_images(loaders(module)[3]), reference.normalize(pixels, *both))


def test_a_normalization_that_is_none_is_refused():
    for wrong in ("0.2,0.2", "0.2,0.2,0", "a,b,c", "nan,1,1"):
        with pytest.raises(SystemExit, match=f"--std {wrong} must be three numbers"):
            loaders(cifar, f"--std {wrong}")


@PATHS
def test_a_crop_sees_black_beyond_the_border_where_asked_for(module):
    plain = "--flip none --mean 0,0,0 --std 1,1,1"
    sampler, train_loader, *_ = loaders(module, plain, "--pad constant --crop 4")
    originals = torch.stack([reference.to_image(image) / 255 for image, _ in cifar.open_images(ARGS_FAKE, train=True)])
    windows = torch.nn.functional.pad(originals, [4] * 4).unfold(2, 32, 1).unfold(3, 32, 1)
    windows = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 32, 32)
    sampler.epoch = 0
    seen = all_images(train_loader)
    assert len(seen) == 40
    for image in seen:
        assert (windows - image).abs().flatten(1).amax(1).min() < 1e-6


ARGS_FAKE = SimpleNamespace(data="fake", limit=40)


@PATHS
def test_augmented_test_images_are_drawn_anew_in_each_epoch_and_again_when_it_is_repeated(module):
    sampler, _, _, test = loaders(module, "--recipe R4")
    plain = all_images(loaders(module, "--recipe R3-18")[3])
    epochs = []
    for epoch in (0, 1, 0):
        sampler.epoch = epoch
        epochs.append(all_images(test))
    assert torch.equal(epochs[0], epochs[2])
    for images in (epochs[1], plain):
        assert (images != epochs[0]).flatten(1).any(1).all()
    assert [labels.tolist() for _, labels in test] == [labels.tolist() for _, labels in loaders(module)[3]]


@PATHS
def test_a_cut_out_image_has_a_square_in_the_mean_colour(module):
    sampler, train_loader, *_ = loaders(module, "--cutout 0.5 --flip none --crop 0")
    sampler.epoch = 0
    holes = (all_images(train_loader) == 0).all(1).flatten(1).sum(1)
    assert 8 < (holes > 0).sum() < 32  # of 40
    assert holes.max() == 256
    assert set(holes[holes > 0].tolist()) <= {high * wide for high in range(8, 17) for wide in range(8, 17)}


def test_mixing_ends_where_asked_for(tmp_path, monkeypatch):
    seen = []
    mix = train.Mixup.__call__
    monkeypatch.setattr(train.Mixup, "__call__", lambda self, *batch: seen.append(mix(self, *batch)) or seen[-1])
    run(tmp_path, TINY, "--epochs 4 --mixup 1 --mix-until 0.5 --smoothing 0")
    mixed = [bool((targets.max(1).values < 1).any()) for _, targets in seen]
    assert mixed == [True] * 4 + [False] * 4


def test_the_log_says_that_the_test_images_were_augmented(tmp_path):
    log = run(tmp_path, TINY, "--augment-eval --epochs 1")
    assert log["evaluated_on"] == "augmented test"


IMAGES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
STILL = (torch.zeros(6), torch.zeros(6, 2), torch.ones(6, 3), torch.arange(3).repeat(6, 1))


def distorted(distortion, **changes):
    numbers = dict(zip(("angle", "shift", "factors", "order"), STILL, strict=True)) | changes
    return distortion.apply(IMAGES / 255, **numbers)


def test_the_fast_paths_shift_is_torchvisions():
    shift = torch.tensor([[3.0, -2.0]]).repeat(6, 1)
    moved = distorted(fast_data.Distortion(translate=0.1), shift=shift)
    theirs = reference.affine(IMAGES, angle=0, translate=[3, -2], scale=1, shear=[0, 0])
    torch.testing.assert_close(moved, theirs / 255)


@pytest.mark.parametrize("angle", [-15.0, 4.0, 10.0])
def test_the_fast_paths_rotation_is_torchvisions_in_one_of_the_directions(angle):
    """A pixel in a hundred may lie between two, where rounding decides."""
    turned = distorted(fast_data.Distortion(rotate=15), angle=torch.full((6,), angle))
    either = [reference.rotate(IMAGES, direction * angle) / 255 for direction in (1, -1)]
    unequal = [(turned - theirs).abs().gt(1e-3).float().mean() for theirs in either]
    assert min(unequal) < 0.01 < max(unequal)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_fast_paths_jitter_is_torchvisions(order):
    factors = torch.tensor([[0.8, 1.2, 0.85], [1.1, 0.9, 1.2]] * 3)
    changed = distorted(fast_data.Distortion(jitter=0.2), factors=factors, order=torch.tensor(order).repeat(6, 1))
    adjust = reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation
    for image, theirs, numbers in zip(changed, IMAGES / 255, factors, strict=True):
        for k in order:
            theirs = adjust[k](theirs, numbers[k].item())
        torch.testing.assert_close(image, theirs, atol=1e-3, rtol=0)


def test_the_fast_paths_distortions_stay_within_their_bounds_and_reach_them():
    g = torch.Generator().manual_seed(0)
    angle, shift, factors, order = fast_data.Distortion(15, 0.1, 0.2).draw(10_000, g)
    assert 14.9 < angle.abs().max() <= 15
    assert sorted(shift.unique().tolist()) == [-3, -2, -1, 0, 1, 2, 3]
    assert 0.8 <= factors.min() < 0.801
    assert 1.199 < factors.max() <= 1.2
    assert len(order.unique(dim=0)) == 6


@pytest.mark.parametrize("processes", [1, 3, 8])
def test_any_number_of_processes_shares_a_batch_of_the_evaluation(processes):
    args = train.parse_args(words("--data fake --limit 40 --batch-size 24 --workers 0 --out nowhere --holdout 10"))
    several = SimpleNamespace(prepare=lambda *all_: all_, device=torch.device("cpu"), num_processes=processes)
    for augmented in (False, True):
        args.augment_eval = augmented
        for loader in cifar.make_loaders(args, several)[2:]:
            size = loader.batch_sampler.batch_size
            assert size % processes == 0
            assert size >= cifar.EVAL_BATCH


@PATHS
def test_a_batch_that_the_processes_cannot_share_evenly_is_refused(module):
    args = train.parse_args(words("--data fake --limit 40 --batch-size 8 --workers 0 --out nowhere"))
    three = SimpleNamespace(prepare=lambda *all_: all_, device=torch.device("cpu"), num_processes=3)
    with pytest.raises(SystemExit, match="--batch-size 8 is not shared evenly by 3 processes; use a multiple"):
        module.make_loaders(args, three)
