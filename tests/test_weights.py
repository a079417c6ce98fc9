"""Weights are the published ones, from the place that was asked for, or there is a clear error; never a random net."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save, save_file

import budgetnets
from budgetnets import WeightsIntegrity, WeightsMismatch, WeightsUnavailable, trained_weights, weights
from budgetnets.variants import VARIANTS, find_variant

TRAINED = [(row, card) for row in VARIANTS.values() for card in row.weights]
EACH_TRAINED = pytest.mark.parametrize(("row", "card"), TRAINED, ids=[f"{r.name}.{c.tag}" for r, c in TRAINED])
UNTRAINED = [row.name for row in VARIANTS.values() if not row.weights]
NAME = TRAINED[0][0].name
IMAGES = torch.randn(2, 3, 32, 32)


@EACH_TRAINED
def test_a_bundled_file_is_small_half_precision_and_the_one_on_the_card(row, card):
    path = weights.bundled_path(row, card)
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == card.sha256
    assert len(content) <= 10 * 2**20
    assert path.stat().st_mode & 0o444 == 0o444
    for name, tensor in load_file(path).items():
        statistics = "running_" in name
        assert tensor.dtype == (
            torch.int64 if "num_batches" in name else torch.float32 if statistics else torch.float16
        ), name


def test_every_card_of_trained_weights_is_that_of_a_variant():
    assert trained_weights.TRAINED.keys() <= VARIANTS.keys()


@EACH_TRAINED
def test_a_card_says_what_its_log_says(row, card):
    log = json.loads((Path(__file__).parent.parent / card.log).read_text())
    assert log["model"] == row.name
    assert log["params"] == row.params
    assert len(log["epochs"]) == card.recipe["epochs"]
    assert log["commit"] == card.recipe["commit"]
    assert log["hardware"] == card.recipe["hardware"]
    # The log's figure is the fp32 weights' in the run's own precision; the card's is the fp16 file's in fp32.
    assert card.top1 == pytest.approx(log["epochs"][-1]["eval_top1"], abs=0.15)
    assert card.top1_flip > card.top1 - 0.3
    assert card.tag.endswith("_c10")
    assert (card.mean, card.std) == (budgetnets.CIFAR10_MEAN, budgetnets.CIFAR10_STD)


@EACH_TRAINED
def test_weights_come_from_one_training_that_started_at_random(row, card):
    log = json.loads((Path(__file__).parent.parent / card.log).read_text())
    assert log.get("start_sha256") is None
    assert not {"pretrained", "checkpoint_path"} & json.loads(log["args"]["model_args"]).keys()
    assert "--model-args" not in card.recipe["command"]


@EACH_TRAINED
def test_weights_beat_what_the_report_says(row, card):
    assert card.top1 > max((reported.top1 for reported in row.reported), default=0)
    assert row.name != "resnet9_cifar" or card.top1 > 93.0  # what its users are promised, whatever R1 and R3 say


@EACH_TRAINED
def test_create_and_timm_load_the_same_weights(row, card):
    ours = budgetnets.create(row.name, pretrained=True)
    timms = timm.create_model(f"{row.name}.{card.tag}", pretrained=True)
    assert not ours.training
    assert timms.training  # timm's habit; create() spares its users the wrong answers of train mode
    state = ours.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in timms.state_dict().items())
    assert all(
        torch.equal(t.to(state[n].dtype), state[n]) for n, t in load_file(weights.bundled_path(row, card)).items()
    )
    assert ours.class_names == timms.class_names == card.classes
    for model in (ours, timms):
        assert "state_dict" not in model.pretrained_cfg
        assert model.pretrained_cfg["tag"] == card.tag


@EACH_TRAINED
def test_classes_channels_and_features_adapt_with_weights(row, card):
    original = budgetnets.create(row.name, pretrained=True)
    backbone = "stages.0.0.conv1.weight"
    five = budgetnets.create(row.name, pretrained=True, num_classes=5)
    assert five(IMAGES).shape == (2, 5)
    assert five.class_names is None
    assert 0 < five.head.weight.abs().max() <= five.head_hidden_size**-0.5  # drawn, as a linear layer's are
    assert torch.equal(five.state_dict()[backbone], original.state_dict()[backbone])
    grey = budgetnets.create(row.name, pretrained=True, in_chans=1)
    torch.testing.assert_close(grey.stem.conv.weight, original.stem.conv.weight.sum(1, keepdim=True))
    # timm's rule for one channel is the sum, so a grey image gives what it gave in colour, but at the border
    same = IMAGES[:, :1].repeat(1, 3, 1, 1)
    torch.testing.assert_close(grey(IMAGES[:, :1]), original(same), rtol=1e-3, atol=1e-3)
    rgbn = budgetnets.create(row.name, pretrained=True, in_chans=4)
    assert rgbn(torch.randn(2, 4, 32, 32)).shape == (2, 10)
    maps = budgetnets.create(row.name, pretrained=True, features_only=True)(IMAGES)
    assert torch.equal(maps[-1], original.forward_features(IMAGES))
    headless = budgetnets.create(row.name, pretrained=True, num_classes=0)
    assert torch.equal(headless(IMAGES), original.forward_head(original.forward_features(IMAGES), pre_logits=True))
    half = budgetnets.create(row.name, pretrained=True, dtype=torch.bfloat16)
    assert half(IMAGES.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", UNTRAINED)
@pytest.mark.parametrize("create", [budgetnets.create, timm.create_model])
def test_a_variant_without_weights_says_so_and_names_those_with(name, create):
    with pytest.raises(WeightsUnavailable, match=f"{name} has no trained weights") as caught:
        create(name, pretrained=True)
    assert all(row.name in str(caught.value) for row, _ in TRAINED)
    assert "pretrained=False" in str(caught.value)


def test_the_generic_network_has_no_weights_of_its_own():
    with pytest.raises(WeightsUnavailable, match="local-dir:folder"):
        budgetnets.create("budget_resnet", pretrained=True)


def test_an_unknown_source_is_refused(monkeypatch):
    monkeypatch.setenv("BUDGETNETS_WEIGHTS", "bundle")
    with pytest.raises(ValueError, match="BUDGETNETS_WEIGHTS='bundle' is unknown; use one of auto, bundled, hub"):
        budgetnets.create("resnet9_cifar", pretrained=True)


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Let the package look for its bundled file in a folder of the test's own."""
    row, card = TRAINED[0]
    path = tmp_path / "bundled.safetensors"
    path.write_bytes(weights.bundled_path(row, card).read_bytes())
    monkeypatch.setattr(weights, "bundled_path", lambda row, card: path)
    return path


def test_a_file_that_is_far_too_large_is_refused_unread(elsewhere):
    with elsewhere.open("r+b") as file:
        file.truncate(100 * 2**20)  # sparse: it takes no space
    with pytest.raises(WeightsIntegrity, match="104,857,600 bytes; no weight file of the zoo has more than 67,108,864"):
        budgetnets.create(NAME, pretrained=True)


@pytest.mark.parametrize("create", [budgetnets.create, timm.create_model])
@pytest.mark.parametrize("source", ["auto", "bundled"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "html"])
def test_a_damaged_bundled_file_is_refused_with_its_place_and_the_remedy(
    elsewhere, monkeypatch, create, source, damage
):
    content = bytearray(elsewhere.read_bytes())
    content[-1] ^= 1
    damaged = {"flipped": content, "truncated": content[:-100], "empty": b"", "html": b"<html>"}
    elsewhere.write_bytes(damaged[damage])
    monkeypatch.setenv("BUDGETNETS_WEIGHTS", source)
    with pytest.raises(WeightsIntegrity) as caught:
        create(NAME, pretrained=True)
    for part in (NAME, str(elsewhere), "pip install --force-reinstall", "BUDGETNETS_WEIGHTS=hub"):
        assert part in str(caught.value)


def test_bundled_never_touches_the_network_even_when_the_file_is_missing(elsewhere, monkeypatch):
    elsewhere.unlink()
    monkeypatch.setenv("BUDGETNETS_WEIGHTS", "bundled")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it would fail
    with pytest.raises(WeightsUnavailable, match="not among the files bundled"):
        budgetnets.create(NAME, pretrained=True)


def as_overlay(config):
    return {"pretrained_cfg_overlay": {"hf_hub_id": config.hf_hub_id}}


def as_object(config):
    return {"pretrained_cfg": config}


def as_dictionary(config):
    return {"pretrained_cfg": config.to_dict()}


@pytest.mark.parametrize("create", [budgetnets.create, timm.create_model])
@pytest.mark.parametrize("given", [as_overlay, as_object, as_dictionary])
def test_timms_copy_of_a_registered_configuration_means_the_verified_weights(elsewhere, monkeypatch, create, given):
    monkeypatch.setenv("BUDGETNETS_WEIGHTS", "bundled")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    row, card = TRAINED[0]
    arguments = given(timm.models.get_pretrained_cfg(f"{row.name}.{card.tag}"))
    model = create(NAME, pretrained=True, **arguments)
    right = load_file(elsewhere)
    assert all(torch.equal(right[name].to(t.dtype), t) for name, t in model.state_dict().items())
    assert model.class_names == card.classes
    again = create(NAME, pretrained=True, pretrained_cfg=model.pretrained_cfg)
    assert torch.equal(again.stem.conv.weight, model.stem.conv.weight)
    with pytest.raises(WeightsMismatch, match="is not for this network"):
        create(UNTRAINED[0], pretrained=True, **arguments)
    elsewhere.write_bytes(elsewhere.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsIntegrity, match=NAME):
        create(NAME, pretrained=True, **arguments)


def in_a_process(program, tmp_path, **environment):
    """Run in a process of its own: the Hub's client reads its address and cache when it is imported."""
    environment = {
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_DISABLE_XET": "1",
    } | environment
    return subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )


def test_hub_never_uses_the_bundled_file(tmp_path):
    program = f"import budgetnets; budgetnets.create({NAME!r}, pretrained=True)"
    result = in_a_process(program, tmp_path, BUDGETNETS_WEIGHTS="hub")
    assert "WeightsUnavailable" in result.stderr
    assert f"budgetnets/{NAME}@{TRAINED[0][1].tag}/model.safetensors could not be had" in result.stderr
    assert "pretrained=False" in result.stderr


def fill_cache(folder, row, card):
    """Put a variant's weights where the Hub's client would; return the file."""
    repo = folder / f"models--budgetnets--{row.name}"
    commit = "a" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / card.hub_revision).write_text(commit)
    (repo / "snapshots" / commit).mkdir(parents=True)
    cached = repo / "snapshots" / commit / "model.safetensors"
    cached.write_bytes(weights.bundled_path(row, card).read_bytes())
    return cached


@pytest.mark.slow
def test_offline_with_a_cold_cache_says_so_and_with_a_warm_one_works(tmp_path):
    row, card = TRAINED[0]
    program = f"import budgetnets; print(budgetnets.create({NAME!r}, pretrained=True).class_names[3])"
    environment = {"BUDGETNETS_WEIGHTS": "hub", "HF_HUB_OFFLINE": "1"}
    cold = in_a_process(program, tmp_path, **environment)
    assert "WeightsUnavailable" in cold.stderr
    assert "HF_HUB_OFFLINE" in cold.stderr
    cached = fill_cache(tmp_path / "hub", row, card)
    warm = in_a_process(program, tmp_path, **environment)
    assert warm.stdout.strip() == "cat", warm.stderr
    cached.write_bytes(cached.read_bytes()[:-1] + b"?")
    damaged = in_a_process(program, tmp_path, **environment)
    assert "Weights" in damaged.stderr
    assert damaged.returncode != 0


@pytest.mark.parametrize("create", [budgetnets.create, timm.create_model])
@pytest.mark.parametrize("how", ["file", "state_dict", "checkpoint_path"])
def test_a_source_that_the_caller_names_wins(tmp_path, create, how):
    mine = timm.create_model(NAME)
    path = tmp_path / "mine.safetensors"
    save_file(mine.state_dict(), path)
    named = {
        "file": {"pretrained_cfg_overlay": {"file": str(path)}},
        "state_dict": {"pretrained_cfg_overlay": {"state_dict": mine.state_dict()}},
        "checkpoint_path": {"checkpoint_path": str(path)},
    }
    model = create(NAME, pretrained=True, **named[how])
    assert torch.equal(model.stem.conv.weight, mine.stem.conv.weight)


def other_keys(state):
    return {f"backbone.{name}": tensor for name, tensor in state.items()}


def without_a_key(state):
    return {name: tensor for name, tensor in state.items() if name != "stages.1.0.conv1.weight"}


SPOILED = [
    (other_keys, "missing names"),
    (without_a_key, "1 missing names .stages.1.0.conv1.weight"),
    (lambda s: s | {"extra": torch.zeros(1)}, "1 unexpected names .extra"),
    (lambda s: s | {"stages.0.0.conv1.weight": torch.zeros(64, 64, 9)}, r"shape \(64, 64, 9\)"),
    (lambda s: s | {"stages.0.0.norm1.bias": torch.full((64,), float("nan"))}, "not finite"),
    (lambda s: s | {"stages.0.0.norm1.bias": torch.zeros(64, dtype=torch.int8)}, "torch.int8"),
    (lambda s: s | {"head.weight": torch.zeros(7, 512), "head.bias": torch.zeros(7)}, r"head.\w+ has shape \(7,"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILED)
@pytest.mark.parametrize("num_classes", [10, 5])  # with 5, timm alone would take a random backbone and only log it
@pytest.mark.parametrize("create", [budgetnets.create, timm.create_model])
def test_a_file_that_does_not_fit_is_refused(tmp_path, spoil, message, num_classes, create):
    path = tmp_path / "model.safetensors"
    save_file(spoil(timm.create_model("resnet9_cifar").state_dict()), path)
    with pytest.raises(WeightsMismatch, match=message):
        create("resnet9_cifar", pretrained=True, num_classes=num_classes, pretrained_cfg_overlay={"file": str(path)})


def test_another_variants_weights_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model("seresnet20_cifar").state_dict(), path)
    with pytest.raises(WeightsMismatch, match="is not for this network"):
        timm.create_model("resnet9_cifar", pretrained=True, pretrained_cfg_overlay={"file": str(path)})


def test_a_checkpoint_serves_a_variant_that_has_no_weights_of_its_own(tmp_path):
    name = UNTRAINED[0]
    mine = timm.create_model(name)
    save_file(mine.state_dict(), tmp_path / "mine.safetensors")
    model = budgetnets.create(name, pretrained=True, checkpoint_path=str(tmp_path / "mine.safetensors"))
    assert torch.equal(model.stem.conv.weight, mine.stem.conv.weight)
    assert not model.training


def test_a_headless_file_serves_a_network_with_a_classifier(tmp_path):
    from timm.models import save_for_hf

    headless = budgetnets.build_resnet(2, 1, 8, num_classes=0)
    save_for_hf(headless, tmp_path, safe_serialization=True)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=5)
    assert model(IMAGES).shape == (2, 5)
    assert torch.equal(model.stages[1][0].conv2.weight, headless.stages[1][0].conv2.weight)
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=True)(IMAGES).shape == (2, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_loader_takes_half_and_full_precision(tmp_path, dtype):
    mine = timm.create_model("resnet9_cifar").state_dict()
    path = tmp_path / "model.safetensors"
    save_file({name: t.to(dtype) if t.is_floating_point() else t for name, t in mine.items()}, path)
    model = budgetnets.create("resnet9_cifar", pretrained=True, pretrained_cfg_overlay={"file": str(path)})
    assert torch.equal(model.head.weight, mine["head.weight"].to(dtype).float())
    assert model.head.weight.dtype == torch.float32


def test_a_registered_hash_is_checked_through_timm_too(monkeypatch, tmp_path):
    """A variant whose pinned hash is another file's: nothing lets it in."""
    from dataclasses import replace

    row = find_variant("seresnet20_cifar")
    card = weights.Weights("test_c10", "0" * 64, top1=0.0, top1_flip=0.0, ece=0.0, seeds=(), recipe={}, log="")
    path = tmp_path / "file.safetensors"
    path.write_bytes(save(timm.create_model(row.name).state_dict()))
    monkeypatch.setattr(weights, "find_variant", lambda name: replace(row, weights=(card,)))
    monkeypatch.setattr(weights, "find_weights", lambda name: card)
    monkeypatch.setattr(weights, "bundled_path", lambda row, card: path)
    for create in (budgetnets.create, timm.create_model):
        with pytest.raises(WeightsIntegrity, match=r"expected 0000000000000000\.\.\."):
            create(row.name, pretrained=True, num_classes=5)


@pytest.mark.parametrize("how", ["pretrained", "checkpoint_path", "context"])
def test_weights_are_not_loaded_where_there_are_no_values(tmp_path, how):
    save_file(timm.create_model(NAME).state_dict(), tmp_path / "mine.safetensors")
    options = {"checkpoint_path": tmp_path / "mine.safetensors"} if how == "checkpoint_path" else {"pretrained": True}
    options |= {} if how == "context" else {"device": "meta"}
    place = torch.device("meta") if how == "context" else contextlib.nullcontext()
    said = r"'meta' holds no values.*; load them on one that does \(device='cpu'\)"
    with place, pytest.raises(ValueError, match=said):
        budgetnets.create(NAME, **options)
    assert budgetnets.create(NAME, device="meta").head.weight.is_meta


def test_an_empty_checkpoint_path_does_not_leave_a_random_network():
    with pytest.raises(ValueError, match="checkpoint_path='' names no file"):
        budgetnets.create(NAME, checkpoint_path="")
