"""Claims about the folder that examples/train.py and average.py leave: it loads like any other, and says its start."""

import hashlib
import json
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from training import OF_TIMM, TINY, average, grow, read_log, run, run_folder, stopped_before, weights

import budgetnets

pytestmark = pytest.mark.usefixtures("train_in_process")
ONE = f"{TINY} --epochs 1"
TRAINED = "--model budgetnet_100k_cifar --limit 64 --batch-size 32 --epochs 1 --model-args "
TRAINED += """'{"pretrained": true}'"""


def loaded(folder):
    return budgetnets.create(f"local-dir:{folder}", pretrained=True)


def assert_has_the_weights(model, folder):
    state, written = model.state_dict(), weights(folder)
    assert state.keys() == written.keys()
    assert all(torch.equal(tensor, written[name]) for name, tensor in state.items())


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


# --- loading


def test_a_runs_folder_loads_with_its_weights_and_the_normalization_of_its_training(tmp_path):
    run(tmp_path, ONE, "--mean 0.5,0.4,0.3 --std 0.2,0.21,0.22")
    model = loaded(tmp_path)
    assert_has_the_weights(model, tmp_path)
    assert (model.spec.num_layers, model.num_classes) == (2, 10)
    normalize = budgetnets.transforms(model).transforms[-1]
    torch.testing.assert_close(torch.as_tensor(normalize.mean), torch.tensor([0.5, 0.4, 0.3]))
    torch.testing.assert_close(torch.as_tensor(normalize.std), torch.tensor([0.2, 0.21, 0.22]))
    assert model.class_names is None  # noise shows no aeroplanes


def test_a_runs_folder_is_exported_from_the_command_line(tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install 'budgetnets[onnx]'")
    run(tmp_path / "run", ONE)
    command = [sys.executable, "-m", "budgetnets", "export", f"local-dir:{tmp_path / 'run'}", str(tmp_path / "x.onnx")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert (tmp_path / "x.onnx").exists()


def test_a_run_on_cifar10_names_its_classes(cifar10, tmp_path):
    run(tmp_path, ONE, f"--data {cifar10}")
    assert loaded(tmp_path).class_names == budgetnets.CIFAR10_CLASSES


def test_what_a_stopped_run_has_reached_loads(tmp_path, monkeypatch):
    with stopped_before(4, monkeypatch):  # in its second epoch
        run(tmp_path, f"{TINY} --epochs 3")
    assert len(read_log(tmp_path)["epochs"]) == 1
    assert_has_the_weights(loaded(tmp_path), tmp_path)


def test_a_variant_trained_on_from_its_weights_loads_as_the_run_left_it(tmp_path):
    """And nothing that its configuration says of the zoo's weights is said of the run's."""
    run(tmp_path, TRAINED)
    assert_has_the_weights(loaded(tmp_path), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == "budgetnet_100k_cifar"
    assert "label_names" not in config
    assert not {"tag", "hf_hub_id"} & config["pretrained_cfg"].keys()


def test_a_network_of_timms_own_gets_no_configuration_and_loads_by_its_weights(tmp_path):
    run(tmp_path, OF_TIMM)
    assert not (tmp_path / "config.json").exists()
    model = timm.create_model("test_resnet", num_classes=10, checkpoint_path=tmp_path / "model.safetensors")
    assert_has_the_weights(model, tmp_path)


def test_averaged_weights_load_with_the_classes_of_the_last_run(tmp_path):
    runs = [str(tmp_path / f"run{seed}") for seed in (1, 2)]
    for seed in (1, 2):
        run(tmp_path / f"run{seed}", ONE, f"--seed {seed}")
    last = tmp_path / "run2" / "log.json"
    last.write_text(json.dumps(read_log(tmp_path / "run2") | {"data": "CIFAR-10"}))
    average.main([*runs, "--data", "fake", "--cpu", "--out", str(tmp_path / "both")])
    model = loaded(tmp_path / "both")
    assert_has_the_weights(model, tmp_path / "both")
    assert model.class_names == budgetnets.CIFAR10_CLASSES


# --- the start


def test_the_log_tells_the_start_by_the_hash_of_the_run_that_it_goes_on_from(tmp_path):
    assert run(tmp_path / "first", ONE)["start_sha256"] is None  # random
    start = tmp_path / "first" / "model.safetensors"
    given = json.dumps({"N": 2, "B": 1, "C": [8, 16], "checkpoint_path": str(start)})
    second = f"{TINY} --model-args '{given}' --epochs 2"
    assert run(tmp_path / "second", second)["start_sha256"] == digest(start)
    assert digest(tmp_path / "second" / "model.safetensors") != digest(start)


def test_the_hash_of_a_start_is_that_of_the_file_that_grow_wrote(tmp_path):
    letters, file = '{"N": 2, "B": 2, "C": [8, 16]}', tmp_path / "grown.safetensors"
    run(tmp_path / "small", ONE)
    grow.main(["budget_resnet", "--model-args", letters, "--start", str(tmp_path / "small"), "--out", str(file)])
    given = json.dumps(json.loads(letters) | {"checkpoint_path": str(file)})
    assert run(tmp_path / "large", f"{ONE} --model-args '{given}'")["start_sha256"] == digest(file)


def test_a_resumed_run_keeps_the_hash_of_its_start(tmp_path, monkeypatch):
    torch.manual_seed(1)
    state = budgetnets.build_resnet(N=2, B=1, C=[8, 16]).state_dict()
    save_file(state, tmp_path / "start.safetensors", {"format": "pt"})
    given = json.dumps({"N": 2, "B": 1, "C": [8, 16], "checkpoint_path": str(tmp_path / "start.safetensors")})
    options = f"{TINY} --model-args '{given}' --epochs 2"
    with stopped_before(4, monkeypatch):
        run(tmp_path / "run", options)
    other = {name: tensor + 1 for name, tensor in state.items()}
    save_file(other, tmp_path / "start.safetensors", {"format": "pt"})
    assert run(tmp_path / "run", options, "--resume")["start_sha256"] == run_folder.sha256_of(state)


def test_the_zoos_weights_are_told_by_their_values(tmp_path):
    state = budgetnets.create("budgetnet_100k_cifar", pretrained=True).state_dict()
    assert run(tmp_path, TRAINED)["start_sha256"] == run_folder.sha256_of(state)


def test_a_start_that_could_not_be_saved_is_refused_before_the_training(tmp_path):
    state = budgetnets.build_resnet(N=2, B=1, C=[8, 16]).state_dict()
    state["head.bias"][0] = torch.nan
    save_file(state, tmp_path / "broken.safetensors")
    given = json.dumps({"N": 2, "B": 1, "C": [8, 16], "checkpoint_path": str(tmp_path / "broken.safetensors")})
    with pytest.raises(SystemExit, match=r"broken\.safetensors.*head\.bias has values that are not finite"):
        run(tmp_path / "run", f"{TINY} --model-args '{given}'")
    assert not (tmp_path / "run" / "log.json").exists()
