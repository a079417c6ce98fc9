"""What a network takes here is measured fairly, in PyTorch or as a file, alone or beside others."""

import pytest
import torch
from exported import small

import budgetnets
from budgetnets import ResNetSpec, compare_latency, export_onnx, measure_latency
from budgetnets.cli import main


def test_latency_tells_a_large_network_from_a_small_one():
    small, large = ResNetSpec((1,), (2,), input_size=8), ResNetSpec((2, 2), (64, 64))
    assert 0 < 3 * measure_latency(small, rounds=5) < measure_latency(large, rounds=5)


def test_measuring_leaves_everything_as_it_was():
    model = budgetnets.build_resnet(2, 1, 4).train()
    model.stem.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    measure_latency(model, rounds=1)
    measure_latency(model.spec, rounds=1)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("accelerator", "waits"), [("cpu", 5), ("mps", 0), (None, 0)])
def test_each_run_on_an_accelerator_of_any_kind_is_waited_for(accelerator, waits, monkeypatch):
    waited = []
    device = accelerator and torch.device(accelerator)  # the CPU stands in for one, as far as the images are on it
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    measure_latency(torch.nn.Linear(3, 2), image=torch.zeros(1, 3), rounds=2, warmup=1)
    assert waited == [torch.device("cpu")] * waits


def test_any_model_is_measured_on_an_image_of_its_own():
    assert measure_latency(torch.nn.Linear(3, 2), image=torch.zeros(1, 3), rounds=1, warmup=0) > 0
    with pytest.raises(TypeError, match="give image="):
        measure_latency(torch.nn.Linear(3, 2))
    with pytest.raises(TypeError, match="network=3 must be"):
        measure_latency(3)
    with pytest.raises(ValueError, match="did you mean 'resnet9_cifar'"):
        measure_latency("resnet9_cifr")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return export_onnx(small(), tmp_path_factory.mktemp("exported") / "net.onnx").path


@pytest.mark.parametrize("options", [{}, {"normalize": False}, {"dynamic_batch": False}])
def test_a_file_is_measured_on_an_image_as_it_takes_it(options, tmp_path):
    path = export_onnx(small(), tmp_path / "net.onnx", **options).path
    assert measure_latency(path, rounds=1) > 0
    assert measure_latency(str(path), rounds=1) > 0
    assert measure_latency(str(path.rename(tmp_path / "NET.ONNX")), rounds=1) > 0


def test_networks_side_by_side_are_compared_with_the_first(file):
    large = ResNetSpec((2, 2), (64, 64))
    alone, faster, itself = compare_latency(large, file, large, rounds=5)
    assert alone.speedup == 1
    assert faster.speedup > 2
    assert faster.milliseconds < alone.milliseconds / 2
    assert itself.speedup == pytest.approx(1, rel=0.5)


def test_a_slow_spell_of_the_machine_is_not_blamed_on_one_network(monkeypatch):
    # The first takes 1, 10 and 1 seconds in three rounds, the second twice that: the second round was slow for both.
    seconds = iter([1, 1, 2, 2, 10, 10, 20, 20, 1, 1, 2, 2])
    monkeypatch.setattr("budgetnets.latency._seconds", lambda run: next(seconds))
    assert compare_latency(small(), small(), rounds=3) == [(1000, 1), (2000, 0.5)]


def test_what_is_no_network_is_answered_with_what_is(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no such file; budgetnets\.export_onnx writes one"):
        measure_latency("none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"broken\.onnx' is no file that ONNX Runtime takes"):
        measure_latency(broken)
    with pytest.raises(
        ValueError, match=r"takes tensor\(uint8\) of shape .* the image is torch.float32 of \[1, 3, 32, 32\]"
    ):
        measure_latency(file, image=torch.zeros(1, 3, 32, 32))
    with pytest.raises(TypeError, match="no network is given"):
        compare_latency()


def test_the_command_line_compares_a_variant_with_its_file(file, capsys):
    threads = torch.get_num_threads()
    try:
        assert main(["latency", "budgetnet_100k_cifar", str(file), "--rounds", "2"]) == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["network", "ms", "times", "as", "fast"]
    assert first.split()[0] == "budgetnet_100k_cifar"
    assert first.split()[2] == "1.00"
    assert float(second.split()[2]) > 0
    assert main(["latency", "none.onnx"]) == 2
    assert "there is no such file" in capsys.readouterr().err
