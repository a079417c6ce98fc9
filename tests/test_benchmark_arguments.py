"""What a benchmark cannot measure, or write afterwards, is refused before it starts, with the rule and the remedy."""

import importlib
import sys

import calibrate_int8
import latency
import pytest
import startup
import torch
import training_speed

from budgetnets.variants import find_weights

NEEDED = {
    "training_speed": ["--data", "fake"],
    "predictor_runs": ["--data", "fake", "--out", "runs.json"],
    "calibrate_int8": ["resnet9_cifar", "--data", "/nonexist"],
}
ROUNDS = ("latency", "footprint", "startup", "training_speed")
COUNTS = [(script, "--rounds", 1) for script in ROUNDS] + [
    ("training_speed", "--steps", 1),
    ("training_speed", "--workers", 0),
    ("startup", "--creations", 2),  # the later ones have a median too
    ("footprint", "--batches", 1),
    ("latency", "--batches", 1),
    ("latency", "--threads", 1),
    ("fit_predictor", "--repeats", 1),
    ("predictor_runs", "--threads", 1),
    ("predictor_runs", "--images", 1),
]
NAMES = [("latency", "--models"), ("latency", "--peers"), ("footprint", "--models"), ("startup", "--models")]
NAMES += [("training_speed", "--model"), ("training_speed", "--also")]


@pytest.fixture
def refusal(monkeypatch, capsys):
    """Return what a script says of words that it refuses."""

    def say(script, *words):
        main = importlib.import_module(script).main
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *NEEDED.get(script, ()), *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 2
        return capsys.readouterr().err

    return say


@pytest.mark.parametrize(("script", "option", "least"), COUNTS)
def test_too_small_a_count_is_refused(script, option, least, refusal):
    told = f"argument {option}: '{least - 1}' does not fit; use a whole number, {least} or more"
    assert told in refusal(script, option, str(least - 1))


def test_what_is_no_number_is_refused_as_a_number_is(refusal):
    assert "argument --rounds: 'many' does not fit; use a whole number, 1 or more" in refusal(
        "startup", "--rounds=many"
    )


@pytest.mark.parametrize(
    ("script", "option"),
    [("footprint", "--batches"), ("footprint", "--models"), ("latency", "--threads"), ("startup", "--models")],
)
def test_a_list_of_nothing_to_measure_is_refused(script, option, refusal):
    assert f"argument {option}: expected at least one argument" in refusal(script, option)


@pytest.mark.parametrize(("script", "option"), NAMES)
def test_an_unknown_name_is_answered_with_the_nearest(script, option, refusal):
    said = refusal(script, option, "resnet9_cifer")
    assert f"argument {option}: " in said
    assert "did you mean 'resnet9_cifar'? There are " in said


@pytest.mark.parametrize("script", ["latency", "footprint"])
def test_weights_by_their_tag_are_no_network_to_measure(script, refusal):
    name = f"resnet9_cifar.{find_weights('resnet9_cifar').tag}"
    told = f"'{name}' has a tag, but the network is measured and not its weights; use resnet9_cifar"
    assert told in refusal(script, "--models", name)


def test_a_network_without_weights_has_no_start_with_them(refusal):
    assert "'resnet18_cifar' has no trained weights; use resnet9_cifar, " in refusal(
        "startup", "--models", "resnet18_cifar"
    )


@pytest.mark.parametrize("script", ["counting", *ROUNDS])
def test_a_result_needs_a_folder_that_can_be_written(script, refusal, tmp_path, monkeypatch):
    (tmp_path / "taken").touch()
    said = refusal(script, "--out", str(tmp_path / "taken" / "deeper"))
    assert f"since {tmp_path / 'taken'} is no folder; choose another folder" in said
    monkeypatch.setattr("os.access", lambda place, mode: False)
    assert f"since {tmp_path} may not be written; choose" in refusal(script, "--out", str(tmp_path / "new"))


@pytest.mark.parametrize("script", ["fit_predictor", "predictor_runs"])
def test_a_table_needs_a_file(script, refusal, tmp_path):
    told = f"{tmp_path} is a folder; give a file, such as {tmp_path / 'result'}"
    assert told in refusal(script, "--out", str(tmp_path))


def test_the_networks_of_others_need_what_builds_them(refusal, monkeypatch):
    monkeypatch.setattr(latency.importlib.util, "find_spec", lambda name: None)
    said = refusal("latency", "--peers", "resnet20_cifar10", "resnet18")
    assert "--peers resnet20_cifar10: pytorchcv builds them; pip install pytorchcv, or leave them out" in said


def test_a_way_at_full_size_is_needed(refusal, monkeypatch):
    monkeypatch.setattr(training_speed, "fast_loader", lambda options, device: None)
    kinds = training_speed.kinds_of_fast_path(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    (smaller,) = (name for name in kinds if "16 pixels" in name)
    assert "none at full size, of which the quickest is named; add 'fast path, " in refusal(
        "training_speed", "--ways", smaller
    )


def test_a_start_that_fails_tells_why(monkeypatch):
    monkeypatch.setattr(startup, "RUN", "raise SystemExit('no room')")
    monkeypatch.setattr(sys, "argv", ["startup.py", "--models", "resnet9_cifar", "--rounds", "1"])
    with pytest.raises(SystemExit, match="resnet9_cifar: no room"):
        startup.main()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "/nonexist/cifar-10-batches-py does not hold CIFAR-10's published python version"),
        (["--images", "60000"], "--images 60000 is out of range; use 1 to 50,000, such as 512 or 2048"),
        (["--images", "0"], "--images 0 is out of range; use 1 to 50,000"),
    ],
)
def test_ranges_of_images_that_are_not_there_are_refused_before_the_export(words, told, refusal, monkeypatch):
    monkeypatch.setattr(calibrate_int8, "export_graph", None)
    assert told in refusal("calibrate_int8", *words)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet9_cifer", "did you mean 'resnet9_cifar'?"),
        ("resnet18_cifar", "has no trained weights; use resnet9_cifar,"),
    ],
)
def test_int8_needs_a_variant_with_weights(name, told, refusal, monkeypatch):
    monkeypatch.setitem(NEEDED, "calibrate_int8", [name, "--data", "/nonexist"])
    assert told in refusal("calibrate_int8")
