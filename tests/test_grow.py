"""Claims about starting a network from another's weights: it answers as that one does, and trains from there."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from training import OF_TIMM, TINY, grow, read_log, run

import budgetnets

SMALL = {"N": 2, "B": 1, "C": [6, 8]}


def trained(letters, seed=0):
    """A network whose norms have statistics of their own, as after a training."""
    torch.manual_seed(seed)
    model = budgetnets.build_resnet(**letters)
    for name, tensor in model.state_dict().items():
        if "running_var" in name or ("norm" in name and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5)
        elif "running_mean" in name or ("norm" in name and name.endswith("bias")):
            tensor.normal_()
    return model.eval()


def grown(letters, other):
    torch.manual_seed(1)
    model = budgetnets.build_resnet(**letters)
    grow.grow(model, other)
    return model.eval()


def answers(model):
    with torch.no_grad():
        return model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize(
    "more",
    [
        {"B": [3, 2]},
        {"C": [9, 8]},
        {"C": [7, 20]},
        {"F": 5},
        {"K": [1, 3]},
        {"B": 2, "C": [8, 12], "F": [5, 3], "K": 3},
    ],
    ids=["deeper", "wider in one layer", "wider in both", "larger kernels", "larger skip kernels", "all at once"],
)
@pytest.mark.parametrize("se", [None, "stem", "block"])
def test_a_larger_network_gives_the_answers_that_it_starts_from(more, se):
    other = trained(SMALL | {"se": se, "se_reduction": 2})
    model = grown(SMALL | {"se": se, "se_reduction": 2} | more, other)
    torch.testing.assert_close(answers(model), answers(other), rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_so_does_any_larger_network_of_the_family(data):
    N = data.draw(st.integers(1, 3))
    per_layer = lambda *choices: data.draw(st.lists(st.sampled_from(choices), min_size=N, max_size=N))  # noqa: E731
    block = data.draw(st.sampled_from(["basic", "bottleneck"]))
    small = {"N": N, "B": per_layer(1, 2), "C": per_layer(4, 6), "F": per_layer(1, 3), "K": per_layer(1, 3)}
    more = {"B": per_layer(0, 1), "C": per_layer(0, 1, 4), "F": per_layer(0, 2), "K": per_layer(0, 2)}
    large = small | {name: [a + b for a, b in zip(small[name], more[name], strict=True)] for name in more}
    other = trained(small | {"block": block})
    model = grown(large | {"block": block}, other)
    torch.testing.assert_close(answers(model), answers(other), rtol=1e-3, atol=1e-3)


def test_a_map_that_is_no_longer_averaged_starts_with_its_average():
    other = trained(SMALL | {"P": 16})
    torch.testing.assert_close(answers(grown(SMALL | {"P": 8}, other)), answers(other), rtol=1e-4, atol=1e-4)
    back = grown(SMALL | {"P": 16}, grown(SMALL | {"P": 8}, other))
    torch.testing.assert_close(answers(back), answers(other), rtol=1e-4, atol=1e-4)


def test_every_weight_of_the_larger_network_can_learn():
    """None of the zeros is one that a gradient never reaches."""
    model = grown(SMALL | {"B": 2, "C": [8, 12]}, trained(SMALL)).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    images, labels = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(10):
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name: (p != start[name]).flatten(1).any(1) if p.ndim > 1 else None for name, p in model.named_parameters()}
    assert [name for name, channels in moved.items() if channels is not None and not channels.all()] == []


def test_a_smaller_network_takes_the_first_channels_and_blocks():
    other = trained(SMALL | {"B": 2})
    model = grown({"N": 1, "B": 1, "C": [4]}, other)
    assert torch.equal(model.stem.conv.weight, other.stem.conv.weight[:4])
    assert torch.equal(model.stages[0][0].conv1.weight, other.stages[0][0].conv1.weight[:4, :4])
    assert not torch.equal(model.head.weight[:, :4], other.head.weight[:, :4])  # of another map


def test_a_further_layer_and_other_classes_start_anew():
    torch.manual_seed(1)
    plain = budgetnets.build_resnet(N=3, B=1, C=[6, 8, 10], num_classes=7)
    model = grown({"N": 3, "B": 1, "C": [6, 8, 10], "num_classes": 7}, trained(SMALL))
    same = [n for n, t in model.state_dict().items() if torch.equal(t, plain.state_dict()[n])]
    assert {name.split(".")[0] + name.split(".")[1] for name in same if "num_batches" not in name} == {
        *("stages2", "headweight", "headbias")
    }


@pytest.mark.parametrize("other", [{"norm": "groupnorm1"}, {"block": "bottleneck"}, {"act": "silu"}, {"in_chans": 1}])
def test_networks_of_different_kinds_are_refused(other):
    ((name, value),) = other.items()
    with pytest.raises(ValueError, match=f"{name}=.*{value}.*must be the same"):
        grow.grow(budgetnets.build_resnet(**SMALL), budgetnets.build_resnet(**SMALL, **other))


# --- the script


@pytest.fixture
def source(tmp_path, train_in_process):
    run(tmp_path / "small", TINY, "--epochs 1")
    return tmp_path / "small"


def test_a_training_starts_from_the_file(source, tmp_path, capsys):
    larger, file = {"N": 2, "B": 2, "C": [8, 16]}, tmp_path / "grown.safetensors"
    grow.main(["budget_resnet", "--model-args", json.dumps(larger), "--start", str(source), "--out", str(file)])
    assert capsys.readouterr().out.endswith("; anew start stages.0.1, stages.1.1\n")
    model = budgetnets.build_resnet(**larger)
    model.load_state_dict(load_file(file))
    small = budgetnets.build_resnet(N=2, B=1, C=[8, 16])
    small.load_state_dict(load_file(source / "model.safetensors"))
    torch.testing.assert_close(answers(model.eval()), answers(small.eval()), rtol=1e-4, atol=1e-4)
    options = json.dumps(larger | {"checkpoint_path": str(file)})
    run(
        tmp_path / "run",
        f"--model budget_resnet --model-args '{options}' --limit 128 --batch-size 64 --epochs 1 --lr 0",
    )
    # Without a learning rate the weights stay as they started.
    after = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(after[name], p) for name, p in model.named_parameters())
    assert read_log(tmp_path / "run")["args"]["model_args"] == options


def test_a_run_that_started_from_a_file_can_be_started_from_when_the_file_is_gone(source, tmp_path):
    file = tmp_path / "grown.safetensors"
    letters = {"N": 2, "B": 1, "C": [8, 16]}
    command = ["budget_resnet", "--model-args", json.dumps(letters), "--out", str(file)]
    grow.main([*command, "--start", str(source)])
    options = json.dumps(letters | {"checkpoint_path": str(file)})
    run(tmp_path / "run", f"--model budget_resnet --model-args '{options}' --limit 128 --batch-size 64 --epochs 1")
    file.unlink()
    grow.main([*command, "--start", str(tmp_path / "run")])
    theirs = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in load_file(file).items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start", "resnet34_cifar"], "--start resnet34_cifar has no trained weights; use resnet9_cifar"),
        (["--start", "resnet9_cifra"], "did you mean 'resnet9_cifar'?"),
        (["--start", "resnet9_cifar", "--out", "grown.pt"], "--out grown.pt must end in .safetensors"),
        (["--start", "resnet9_cifar", "--model-args", '{"act": "silu"}'], "act='silu', the one to start from 'relu'"),
        (["--start", "resnet9_cifar", "--model-args", '{"N": '], 'give JSON such as {"N": 2, "B": 1, "C": [32, 64]}'),
        (["--start", "resnet9_cifar", "--model-args", '{"ac": "silu"}'], "unknown option 'ac'; did you mean 'act'?"),
        (
            ["--start", "resnet9_cifar", "--model-args", '{"checkpoint_path": "nowhere.safetensors"}'],
            "nowhere.safetensors",
        ),
        (["--start", "resnet9_cifar", "--out", "none/grown.safetensors"], "there is no folder none; make it first"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_remedy(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = options if "--out" in options else [*options, "--out", "grown.safetensors"]
    with pytest.raises(SystemExit) as stopped:
        grow.main(["resnet26_cifar", *options])
    assert message in f"{stopped.value} {capsys.readouterr().err}"
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_librarys_network_is_no_start(tmp_path):
    run(tmp_path / "run", OF_TIMM)
    out = ["--out", str(tmp_path / "grown.safetensors")]
    with pytest.raises(SystemExit, match="a ResNet is no network of the family; give a variant or budget_resnet"):
        grow.main(["resnet26_cifar", "--start", str(tmp_path / "run"), *out])
    assert not (tmp_path / "grown.safetensors").exists()


def test_networks_without_a_classifier_grow_too(tmp_path):
    other = trained({"N": 2, "B": 1, "C": [8, 8], "P": 16, "num_classes": 0})
    model = budgetnets.build_resnet(2, 2, [8, 16], P=8, num_classes=0)
    assert grow.grow(model, other)
