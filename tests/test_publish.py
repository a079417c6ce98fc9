"""Networks are published and come back equal, through the Hub's and timm's own clients, on a Hub on loopback."""

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from hub_server import Hub
from safetensors.torch import load_file

import budgetnets
from budgetnets import WeightsMismatch, build_resnet, publish, release, save_pretrained
from budgetnets.variants import VARIANTS
from budgetnets.weights import bundled_path

TRAINED = [(row, card) for row in VARIANTS.values() for card in row.weights]
IMAGES = torch.randn(2, 3, 32, 32)


def client(program, hub, tmp_path, **environment):
    """Run a program against the Hub on loopback, in a process of its own: the client reads HF_ENDPOINT at import."""
    own = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=os.environ | own | environment, capture_output=True, text=True, timeout=300)


def run_snippet(text):
    """Run the first python block of a model card as its reader would."""
    block = text.split("```python\n")[1].split("```")[0]
    exec(compile(block, "model card", "exec"), {})


def test_a_custom_network_is_written_in_the_hubs_layout_and_comes_back_equal(tmp_path):
    model = build_resnet(3, [1, 2, 1], [8, 12, 16], P=4, se="stem", act="elu", num_classes=3).eval()
    model = model.to(memory_format=torch.channels_last)
    folder = save_pretrained(model, tmp_path / "net", class_names=["a", "b", "c"], dataset="my photos", top1=91.5)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in folder.iterdir())
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "budget_resnet"
    assert (config["model_args"]["C"], config["model_args"]["P"]) == ([8, 12, 16], 4)
    assert config["label_names"] == ["a", "b", "c"]
    assert config["pretrained_cfg"]["std"] == list(budgetnets.CIFAR10_STD)
    for create in (budgetnets.create, timm.create_model):
        again = create(f"local-dir:{folder}", pretrained=True).eval()
        again = again.to(memory_format=torch.channels_last)  # other layouts are added up in another order
        assert torch.equal(again(IMAGES), model(IMAGES))
        assert again.class_names == ("a", "b", "c")
        assert again.spec == model.spec


OF_FIVE = {"mean": (0.1, 0.2, 0.3, 0.4, 0.5), "std": (0.5, 0.4, 0.3, 0.2, 0.1)}


@pytest.mark.parametrize("own", [{}, OF_FIVE], ids=["none", "the owner's"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: build_resnet(2, 1, 8, in_chans=5),
        lambda: budgetnets.create("budget_resnet", N=2, B=1, C=8, in_chans=5),
        lambda: budgetnets.create("seresnet20_cifar", in_chans=5),
    ],
    ids=["built", "created", "variant"],
)
def test_mean_and_std_of_other_channels_than_a_pictures_are_their_owners_or_none(tmp_path, caplog, make, own):
    model = make()
    assert not {"mean", "std"} & model.pretrained_cfg.keys()
    model.pretrained_cfg |= own
    for create in (budgetnets.create, timm.create_model):
        again = create(f"local-dir:{save_pretrained(model, tmp_path)}", pretrained=True)
        assert {key: tuple(again.pretrained_cfg[key]) for key in ("mean", "std") if key in again.pretrained_cfg} == own
        if not own:
            with pytest.raises(ValueError, match="needs mean and std of the network's 5 channels"):
                budgetnets.export_onnx(again, tmp_path / "net.onnx")
    assert not caplog.records


def pruned(model):
    model.prune_intermediate_layers([2])
    return model


def with_classifier(model, num_classes, global_pool=None):
    model.reset_classifier(num_classes, global_pool)
    return model


RATES = {"drop_rate": 0.3, "block_drop_rate": 0.1, "drop_path_rate": 0.2}
CHANGED = {
    "pruned": lambda: pruned(build_resnet(3, 1, [8, 16, 32], drop_path_rate=0.2)),
    "pruned, with a classifier": lambda: with_classifier(pruned(build_resnet(3, 1, [8, 16, 32])), 10),
    "a pruned variant": lambda: pruned(budgetnets.create("seresnet20_cifar", act="elu")),
    "another pool": lambda: with_classifier(build_resnet(3, 1, [8, 16, 32]), 5, "max"),
    "a pool of twice the width": lambda: with_classifier(build_resnet(3, 1, [8, 16, 32]), 5, "catavgmax"),
    "a grid and twice the width": lambda: with_classifier(build_resnet(3, 1, 8, P=4), 5, "catavgmax"),
    "no pool": lambda: with_classifier(build_resnet(3, 1, [8, 16, 32]), 0, ""),
    "dropout": lambda: build_resnet(3, 1, [8, 16, 32], **RATES),
    "a variant's dropout": lambda: budgetnets.create("seresnet20_cifar", **RATES),
    "a variant for other images": lambda: budgetnets.create("seresnet20_cifar", input_size=64, strides=[1, 2, 4]),
}


@pytest.mark.parametrize("make", CHANGED.values(), ids=list(CHANGED))
def test_what_was_changed_after_it_was_built_comes_back_too(tmp_path, make):
    model = make().eval()
    save_pretrained(model, tmp_path)
    for create in (budgetnets.create, timm.create_model):
        again = create(f"local-dir:{tmp_path}", pretrained=True).eval()
        assert again.spec == model.spec
        assert torch.equal(again(IMAGES), model(IMAGES))


def test_a_saved_network_takes_another_classifier_whatever_its_pool_was(tmp_path):
    model = with_classifier(build_resnet(3, 1, [8, 16, 32]), 5, "catavgmax").eval()
    save_pretrained(model, tmp_path)
    again = budgetnets.create(f"local-dir:{tmp_path}", pretrained=True, num_classes=2, global_pool="avg")
    assert again(IMAGES).shape == (2, 2)
    assert torch.equal(again.forward_features(IMAGES), model.forward_features(IMAGES))
    with pytest.raises(WeightsMismatch, match=r"head.weight has shape \(5, 64\), the network's is \(5, 32\)"):
        budgetnets.create(f"local-dir:{tmp_path}", pretrained=True, global_pool="avg")


@pytest.mark.parametrize(("p", "side"), [(None, 12), (8, 12), (4, 4)])
def test_a_saved_network_is_loaded_for_other_images_with_the_pool_that_it_had(tmp_path, p, side):
    model = build_resnet(3, 1, [8, 16, 32], P=p, num_classes=0)
    save_pretrained(model, tmp_path)
    larger = budgetnets.create(f"local-dir:{tmp_path}", pretrained=True, input_size=48)
    assert larger.spec == model.spec.replace(input_size=48)
    assert larger.spec.pool_size == side


def test_what_was_said_of_other_weights_is_not_said_of_a_network_that_never_had_them(tmp_path):
    row, weights = TRAINED[0]
    untrained = budgetnets.create(row.name)
    save_pretrained(untrained, tmp_path / "net", license="mit")
    again = budgetnets.create(f"local-dir:{tmp_path / 'net'}", pretrained=True)
    assert again.class_names is None
    assert again.pretrained_cfg["license"] == "mit"
    assert weights.tag not in (tmp_path / "net" / "config.json").read_text()
    save_pretrained(untrained, tmp_path / "named", class_names=list("abcdefghij"))
    renamed = budgetnets.create(f"local-dir:{tmp_path / 'named'}", pretrained=True)
    renamed.reset_classifier(10)  # ten other classes
    save_pretrained(renamed, tmp_path / "reset")
    assert budgetnets.create(f"local-dir:{tmp_path / 'reset'}", pretrained=True).class_names is None


def test_the_card_counts_the_pool_that_the_network_has(tmp_path):
    model = budgetnets.create("budget_resnet", N=2, B=1, C=[8, 16], global_pool="catavgmax")
    text = (save_pretrained(model, f"{tmp_path}/mine/") / "README.md").read_text()
    assert f"- Parameters: {sum(p.numel() for p in model.parameters()):,}\n" in text
    assert "\n# mine\n" in text


def test_a_trained_network_is_saved_without_where_its_weights_came_from(tmp_path):
    row, _ = TRAINED[0]
    model = budgetnets.create(row.name, pretrained=True, local_files_only=True)
    config = json.loads((save_pretrained(model, tmp_path) / "config.json").read_text())
    assert config["architecture"] == row.name
    assert config["model_args"].keys() == {"num_classes", "in_chans", "global_pool"}


def test_saving_leaves_a_network_in_training_as_it_is(tmp_path):
    model = build_resnet(2, 1, 8, drop_rate=0.5).train()
    model.stages[0].eval()
    modes, before = [module.training for module in model.modules()], model.stem.norm.running_mean.clone()
    save_pretrained(model, tmp_path / "net")
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.stem.norm.running_mean, before)


def test_saving_draws_no_random_numbers(tmp_path):
    model = build_resnet(2, 1, 8)
    before = torch.get_rng_state()
    save_pretrained(model, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def changed_by_hand(how):
    model = build_resnet(2, 1, 8)
    if how == "diverged":
        torch.nn.init.constant_(model.head.bias, float("nan"))
    if how == "another classifier":
        model.head = torch.nn.Linear(8, 3)
    if how == "another activation's parameters":
        model.stem.act = torch.nn.PReLU()
    if how == "an activation without parameters":
        model.stem.act = torch.nn.GELU()
    if how == "a norm's epsilon":
        model.stem.norm.eps = 0.1
    if how == "a stride":
        model.stages[0][0].conv1.stride = (2, 2)
    return model


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("diverged", "head.bias has values that are not finite"),
        ("another classifier", r"head.bias has shape \(3,\)"),
        ("another activation's parameters", "1 unexpected names"),
        ("an activation without parameters", "its logits would differ"),
        ("a norm's epsilon", "its logits would differ"),
        ("a stride", "its logits would differ"),
    ],
)
def test_what_would_not_come_back_is_refused_and_nothing_is_written(tmp_path, how, message):
    with pytest.raises(WeightsMismatch, match=f"nothing was written; .*without layers changed by hand.*{message}"):
        save_pretrained(changed_by_hand(how), tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("name", ["taken", "taken/net"])
def test_a_file_in_the_folders_place_is_named_and_left_as_it_is(tmp_path, name):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(FileExistsError, match=r"taken is a file; move it, or give another folder"):
        save_pretrained(build_resnet(1, 1, 4), tmp_path / name)
    assert (tmp_path / "taken").read_text() == "mine"


def test_no_folder_at_all_is_not_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"folder='' names no folder; give one .* or '\.' for the current one"):
        save_pretrained(build_resnet(1, 1, 4), "")
    assert not list(tmp_path.iterdir())
    save_pretrained(build_resnet(1, 1, 4), ".")
    assert (tmp_path / "config.json").exists()


def test_several_writers_of_one_folder_leave_whole_files_alone(tmp_path):
    models = [build_resnet(1, 1, 4) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda model: save_pretrained(model, tmp_path), models * 6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    written = budgetnets.create(f"local-dir:{tmp_path}", pretrained=True).head.weight
    assert any(torch.equal(written, model.head.weight) for model in models)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        save_pretrained(build_resnet(1, 1, 4), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_card_of_a_custom_network_is_true_and_its_snippet_runs(tmp_path, capsys):
    from huggingface_hub import ModelCard

    model = build_resnet(2, 1, 8, num_classes=2)
    folder = save_pretrained(model, tmp_path / "net", class_names=["cat", "dog"], top1=91.5)
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "timm"
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.license == "apache-2.0"
    for part in (
        str(model.spec),
        f"{budgetnets.count_params(model.spec):,}",
        "import budgetnets",
        "91.50 %",
        "cat, dog",
    ):
        assert part in card.text
    run_snippet(card.text)
    assert capsys.readouterr().out.strip() in ("cat", "dog")


@pytest.mark.parametrize(("in_chans", "folder"), [(4, "four channels"), (1, "grey"), (3, r"a\new \"folder\"")])
def test_the_cards_snippet_runs_whatever_the_channels_and_the_folder(in_chans, folder, tmp_path, capsys):
    folder = save_pretrained(build_resnet(2, 1, 8, in_chans=in_chans), tmp_path / folder)
    run_snippet((folder / "README.md").read_text())
    assert capsys.readouterr().out.strip() in map(str, range(10))


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (torch.nn.Linear(1, 1), {}, TypeError, "Linear is no network of the family"),
        ("features", {}, TypeError, "no features_only network"),
        (build_resnet(2, 1, 8), {"class_names": ["a"]}, ValueError, "1 class names for 10 classes"),
        (build_resnet(2, 1, 8, num_classes=3), {"class_names": "cat"}, TypeError, "class_names='cat' must be a list"),
        (build_resnet(2, 1, 8, num_classes=2), {"class_names": [0, 1]}, TypeError, r"class_names=\[0, 1\] must be a"),
        (build_resnet(2, 1, 8, num_classes=2), {"class_names": {"a", "b"}}, TypeError, "must be a list of strings"),
        (build_resnet(2, 1, 8), {"class_names": 10}, TypeError, "class_names=10 must be a list"),
        (build_resnet(2, 1, 8), {"top1": 101}, ValueError, "top1=101"),
        (build_resnet(2, 1, 8), {"top1": float("nan")}, ValueError, "top1=nan"),
        (build_resnet(2, 1, 8), {"top1": "93"}, TypeError, "top1='93' must be a number"),
        (build_resnet(2, 1, 8), {"top1": True}, TypeError, "top1=True must be a number"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_nothing_is_written(tmp_path, model, options, error, message):
    if model == "features":
        model = timm.create_model("budget_resnet", features_only=True)
    with pytest.raises(error, match=message):
        save_pretrained(model, tmp_path / "net", **options)
    assert not (tmp_path / "net").exists()


PUSH = """
import torch, budgetnets
torch.manual_seed(3)
model = budgetnets.build_resnet(2, 1, [8, 12], K=3, num_classes=2).eval()
token = "_".join(["hf", "secret"])  # not in this text, which Python 3.13 shows in a traceback
url = budgetnets.push_to_hub(model, {repo!r}, token=token, class_names=["cat", "dog"])
print(url, model(torch.ones(1, 3, 32, 32)).tolist())
"""
PULL = """
import torch, timm, budgetnets
model = timm.create_model("hf-hub:{repo}", pretrained=True).eval()
print(model.class_names, model(torch.ones(1, 3, 32, 32)).tolist())
"""


def test_a_custom_network_is_pushed_and_pulled_back_equal(tmp_path):
    with Hub() as hub:
        pushed = client(PUSH.format(repo="me/net"), hub, tmp_path)
        assert pushed.returncode == 0, pushed.stderr
        url, logits = pushed.stdout.split(" ", 1)
        assert url.startswith(f"{hub.url}/me/net/commit/")
        files = hub.repos["me/net"].commits[hub.repos["me/net"].refs["main"]]
        assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
        assert b'create("hf-hub:me/net", pretrained=True)' in files["README.md"]
        pulled = client(PULL.format(repo="me/net"), hub, tmp_path)
        assert pulled.stdout.strip() == f"('cat', 'dog') {logits.strip()}", pulled.stderr


def test_a_refused_push_says_where_and_what_to_do_and_never_shows_the_token(tmp_path):
    with Hub() as hub:
        hub.faults.append(lambda request: request.command == "POST" and (request.error(403, None) or True))
        refused = client(PUSH.format(repo="me/net"), hub, tmp_path)
    assert refused.returncode != 0
    last = refused.stderr.strip().splitlines()[-1]
    assert "RuntimeError: me/net could not be published" in last
    assert "hf auth login" in last
    assert "hf_secret" not in refused.stderr + refused.stdout


def test_a_release_is_checked_before_anything_leaves_the_machine(tmp_path):
    folders = release(tmp_path)
    assert [folder.name for folder in folders] == [f"{row.name}.{card.tag}" for row, card in TRAINED]
    for folder, (row, card) in zip(folders, TRAINED, strict=True):
        assert (folder / "model.safetensors").read_bytes() == bundled_path(row, card).read_bytes()
        text = (folder / "README.md").read_text()
        for part in (
            f"{card.top1:.2f} %",
            f"{row.params:,}",
            "import budgetnets",
            card.recipe["commit"],
            "model-index",
        ):
            assert part in text
        assert load_file(folder / "model.safetensors").keys() == timm.create_model(row.name).state_dict().keys()


def test_a_release_leaves_out_what_is_on_the_hub_alone(tmp_path, monkeypatch):
    row, card = TRAINED[0]
    on_the_hub = dataclasses.replace(card, tag="other_c10", bundled=False)
    monkeypatch.setattr(publish, "VARIANTS", {row.name: dataclasses.replace(row, weights=(card, on_the_hub))})
    assert [folder.name for folder in release(tmp_path)] == [f"{row.name}.{card.tag}"]


@pytest.mark.slow
def test_a_release_is_pushed_with_its_tag_and_is_what_users_then_get(tmp_path):
    row, card = TRAINED[0]
    with Hub() as hub:
        pushed = client(f"import budgetnets; budgetnets.release({str(tmp_path / 'out')!r}, push=True)", hub, tmp_path)
        assert pushed.returncode == 0, pushed.stderr
        repo = hub.repos[row.hub_repo]
        assert repo.refs[card.hub_revision] == repo.refs["main"]
        program = f"""
import torch, budgetnets, timm
ours = budgetnets.create({row.name!r}, pretrained=True)
theirs = timm.create_model("hf-hub:{row.hub_repo}", pretrained=True).eval()
x = torch.randn(2, 3, 32, 32)
print(torch.equal(ours(x), theirs(x)), theirs.class_names[3])
"""
        pulled = client(program, hub, tmp_path, BUDGETNETS_WEIGHTS="hub")
        assert pulled.stdout.strip() == "True cat", pulled.stderr
        assert hub.count("GET", "/cdn/") >= 1
