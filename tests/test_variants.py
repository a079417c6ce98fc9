"""The table: every row is what the report counted, builds, and is at home in timm. A new row is tested by itself."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

import budgetnets
from budgetnets import ResNetSpec, variants
from budgetnets.cards import hub_card
from budgetnets.rows import BUDGET
from budgetnets.variants import VARIANTS

ROWS = pytest.mark.parametrize("row", VARIANTS.values(), ids=list(VARIANTS))

# As resolved from the reports; "exact" ones are printed there to the last digit.
RESOLVED = {
    "resnet9_cifar": 4_903_242,
    "resnet18_slim_cifar": 1_891_658,
    "resnet24_sestem_cifar": 4_697_742,
    "resnet26_cifar": 4_366_250,
    "seresnet26_cifar": 4_398_890,
    "seresnet20_cifar": 1_092_650,
    "resnet14_cifar": 2_562_706,
    "resnet34_deep8_cifar": 4_941_058,
    "resnet34_deep8_alt_cifar": 4_947_658,
    "resnet18_cifar": 11_173_962,
    "resnet34_cifar": 21_282_122,
    "resnet50_cifar": 23_520_842,
    "resnet101_cifar": 42_512_970,
    "resnet152_cifar": 58_156_618,
}

# sha256 of "name shape" lines: renaming a submodule would break every published checkpoint.
STATE_DICT_KEYS = json.loads((Path(__file__).parent / "state_dict_keys.json").read_text())


@pytest.fixture(autouse=True)
def _meta():
    with torch.device("meta"):  # structure only
        yield


@pytest.mark.parametrize("name", RESOLVED)
def test_a_reports_network_is_exact_to_the_parameter(name):
    built = sum(p.numel() for p in timm.create_model(name).parameters())
    assert built == RESOLVED[name] == budgetnets.count_params(name)


@ROWS
def test_a_rows_count_is_that_of_its_network(row):
    assert row.params == sum(p.numel() for p in timm.create_model(row.name).parameters())
    printed = row.reported_params.replace(",", "")
    if printed.isdigit():
        assert int(printed) == row.params


@ROWS
def test_state_dict_keys_and_shapes_are_pinned(row):
    state = timm.create_model(row.name).state_dict()
    lines = "\n".join(f"{name} {list(tensor.shape)}" for name, tensor in state.items())
    assert hashlib.sha256(lines.encode()).hexdigest() == STATE_DICT_KEYS[row.name]


def test_the_keys_read_like_the_network():
    state = budgetnets.build_resnet(2, 1, [4, 8], se="block").state_dict()
    assert list(dict.fromkeys(name.rpartition(".")[0] for name in state)) == [
        *("stem.conv", "stem.norm"),
        *("stages.0.0.conv1", "stages.0.0.norm1", "stages.0.0.conv2", "stages.0.0.norm2"),
        *("stages.0.0.se.fc1", "stages.0.0.se.fc2"),
        *("stages.1.0.conv1", "stages.1.0.norm1", "stages.1.0.conv2", "stages.1.0.norm2"),
        *("stages.1.0.se.fc1", "stages.1.0.se.fc2", "stages.1.0.skip.conv", "stages.1.0.skip.norm"),
        "head",
    ]


@ROWS
def test_a_row_says_what_it_must(row):
    assert row.name.endswith("_cifar")
    assert all(report in budgetnets.variants.REPORTS for report in row.reports)
    assert all(80 < reported.top1 < 95 for reported in row.reported)
    assert row.reported or row.note
    assert row.budget <= BUDGET
    assert row.in_budget == (row.params <= row.budget)
    assert len({weights.tag for weights in row.weights}) == len(row.weights)


@ROWS
def test_timm_knows_the_variant_under_module_budgetnets(row):
    assert row.name in timm.list_models(module="budgetnets")
    model = timm.create_model(row.name)
    assert model.pretrained_cfg["architecture"] == row.name
    assert model.pretrained_cfg["crop_pct"] == 1.0
    assert model.spec == row.spec
    assert "_model_args" not in model.pretrained_cfg


@ROWS
def test_a_card_says_all_that_is_known(row):
    card = budgetnets.card(row.name)
    assert (card.params, card.macs) == (row.params, budgetnets.count_macs(row.spec))
    text = str(card)
    for part in (row.name, f"{row.params:,}", *row.reports, *(f"{r.top1:g} %" for r in row.reported)):
        assert part in text
    assert ("weights: none" in text) == (not row.weights)
    assert ("not trained yet" in text) == (not row.weights and row.in_budget)


def test_a_network_of_our_own_needs_no_report(monkeypatch):
    own = variants.Variant(
        "budgetnet_test_cifar",
        ResNetSpec.from_letters(2, 1, [8, 16]),
        params=5_266,
        budget=8_000,
        note="Found by search.",
    )
    monkeypatch.setattr(variants, "VARIANTS", {own.name: own})
    text = str(budgetnets.card(own.name))
    assert "5,266 parameters (within the budget of 8,000)" in text
    assert "note: Found by search." in text
    assert "report" not in text
    (weights,) = VARIANTS["resnet9_cifar"].weights
    on_the_hub = hub_card(own, weights)
    assert "Found by search.\n\nImages are scaled" in on_the_hub
    assert "A network of the zoo's own" in on_the_hub
    assert "figures of the report" not in on_the_hub
    assert f"value: {weights.top1}\n" in on_the_hub  # what the Hub's leaderboards read
    small = dataclasses.replace(own, budget=5_000)
    monkeypatch.setattr(variants, "VARIANTS", {own.name: small})
    assert "5,266 parameters (over the budget of 5,000)" in str(budgetnets.card(own.name))


def test_the_spread_over_seeds_is_that_of_a_sample():
    (weights,) = VARIANTS["resnet9_cifar"].weights
    assert weights.mean_and_spread == "one seed"
    several = dataclasses.replace(weights, seeds=(93.0, 94.0, 95.0))
    assert several.mean_and_spread == "94.00 +- 1.00 over 3 seeds"


@ROWS
def test_a_card_can_be_a_key_and_a_plain_dictionary(row):
    card = budgetnets.card(row.name)
    assert {card: row.name}[budgetnets.card(row.name)] == row.name
    assert json.loads(json.dumps(dataclasses.asdict(card)))["params"] == row.params


@pytest.mark.parametrize("options", [{"input_size": 64}, {"input_size": 24}, {"strides": [1, 2, 4]}])
def test_a_variant_for_other_images_keeps_its_global_pool_and_its_parameters(options):
    model = timm.create_model("seresnet20_cifar", **options)
    assert model.spec.grid == 1
    assert sum(p.numel() for p in model.parameters()) == VARIANTS["seresnet20_cifar"].params


def test_a_fixed_architecture_refuses_letters_and_unknown_options():
    with pytest.raises(TypeError, match="resnet9_cifar has a fixed C"):
        timm.create_model("resnet9_cifar", C=[1, 2, 3, 4])
    with pytest.raises(TypeError, match="did you mean 'drop_rate'"):
        timm.create_model("resnet9_cifar", drop_rat=0.1)


def test_options_of_the_family_work_through_timm():
    model = timm.create_model(
        "resnet9_cifar", act="elu", drop_path_rate=0.1, block_drop_rate=0.2, init="he", num_classes=7
    )
    assert (model.spec.act, model.spec.drop_path_rate, model.spec.init) == ("elu", 0.1, "he")
    assert model.spec.num_classes == model.num_classes == 7
    assert model.spec.blocks == VARIANTS["resnet9_cifar"].spec.blocks


def test_list_models_filters_by_pattern_budget_and_weights():
    assert budgetnets.list_models() == list(VARIANTS)
    assert budgetnets.list_models("seresnet2?_cifar") == ["seresnet26_cifar", "seresnet20_cifar"]
    small = budgetnets.list_models(max_params=2_000_000)
    assert {"resnet18_slim_cifar", "seresnet20_cifar"} <= set(small)
    assert all(VARIANTS[name].params <= 2_000_000 for name in small)
    assert "resnet18_cifar" not in budgetnets.list_models(max_params=BUDGET)
    assert budgetnets.list_models("nothing*") == []
    assert budgetnets.list_models("resnet9_cifar.*") == ["resnet9_cifar"]
    assert budgetnets.list_models("resnet50_cifar.*") == []  # it has no weights
    with_weights = [f"{row.name}.{weights.tag}" for row in VARIANTS.values() for weights in row.weights]
    assert budgetnets.list_models(pretrained=True) == with_weights
    assert "budget_resnet" not in budgetnets.list_models()
    with pytest.raises(TypeError, match="filter="):
        budgetnets.list_models(3)


TAKE_A_NAME = ["create", "card", "transforms", "count_params", "count_macs", "count_memory", "measure_latency"]


@pytest.mark.parametrize("call", TAKE_A_NAME)
def test_an_unknown_name_or_tag_is_answered_with_the_known_ones(call):
    with pytest.raises(ValueError, match="did you mean 'resnet9_cifar'"):
        getattr(budgetnets, call)("resnet_9_cifar")
    with pytest.raises(ValueError, match="resnet9_cifar has no weights tagged 'nonsense_c10'; it has"):
        getattr(budgetnets, call)("resnet9_cifar.nonsense_c10")


SAVED = {
    "create": "write 'local-dir:{0}'",
    "card": "a saved network's card is the README.md",
    "transforms": "load the network and give it itself: budgetnets.create('local-dir:{0}', pretrained=True)",
    "measure_latency": "load the network and give it itself: budgetnets.create('local-dir:{0}', pretrained=True)",
    "count_params": "load the network and give its spec: budgetnets.create('local-dir:{0}', pretrained=True).spec",
    "verify": "only a variant's weights have a listed accuracy",
}


@pytest.mark.parametrize("call", SAVED)
def test_a_saved_network_in_place_of_a_variant_is_answered_with_what_is_taken(call, tmp_path):
    arguments = [tmp_path] if call == "verify" else []
    for name in (str(tmp_path), f"local-dir:{tmp_path}") if call != "create" else (str(tmp_path),):
        with pytest.raises(ValueError, match="not a variant; ") as caught:
            getattr(budgetnets, call)(name, *arguments)
        assert SAVED[call].format(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("budget_resnt",), "did you mean 'budget_resnet'"),
        (("budget_resnet.x",), "'budget_resnet.x': budget_resnet has no weights of its own, and so no tags"),
    ],
)
def test_the_generic_networks_name_is_suggested_and_has_no_tags(arguments, message):
    with pytest.raises(ValueError, match=message):
        budgetnets.create(*arguments)


@pytest.mark.parametrize("indices", [(9,), [0, 5], (-6,), 6, 0])
def test_maps_that_a_network_has_not_are_answered_with_those_it_has(indices):
    with pytest.raises(ValueError, match=r"the network's maps are 0 \(after the stem\) to 4"):
        budgetnets.create("resnet9_cifar", features_only=True, out_indices=indices)


@pytest.mark.parametrize(("indices", "reductions"), [((0, -1), [1, 8]), (2, [4, 8]), ([4], [8])])
def test_maps_are_counted_from_either_end(indices, reductions):
    model = budgetnets.create("resnet9_cifar", features_only=True, out_indices=indices)
    assert model.feature_info.reduction() == reductions


@pytest.mark.parametrize("name", [None, 3, b"resnet9_cifar"])
def test_a_name_that_is_no_string_is_refused(name):
    with pytest.raises(TypeError, match="must be"):
        budgetnets.create(name)


def test_the_generic_network_takes_the_factorys_arguments():
    kwargs = {"N": 3, "B": [1, 2, 1], "C": [8, 16, 24], "K": 3, "se": "block", "drop_rate": 0.1}
    model = timm.create_model("budget_resnet", **kwargs)
    assert model.spec == budgetnets.build_resnet(**kwargs).spec
    assert json.loads(json.dumps(model._model_args))["B"] == [1, 2, 1]
    assert timm.create_model("budget_resnet").spec.num_layers == 3
    with pytest.raises(ValueError, match="over max_params=1,000"):
        timm.create_model("budget_resnet", **kwargs, max_params=1000)
    with pytest.raises(TypeError, match="no B, C"):
        timm.create_model("budget_resnet", N=2)


def test_a_budget_is_for_the_pool_that_the_network_has():
    """catavgmax doubles what the classifier takes."""
    letters = {"N": 2, "B": 1, "C": [8, 16], "global_pool": "catavgmax"}
    params = sum(p.numel() for p in timm.create_model("budget_resnet", **letters).parameters())
    assert params == budgetnets.count_params(2, 1, [8, 16]) + 16 * 10
    assert timm.create_model("budget_resnet", **letters, max_params=params).num_classes == 10
    with pytest.raises(ValueError, match=f"the network has {params:,} parameters, 1 over max_params={params - 1:,}"):
        timm.create_model("budget_resnet", **letters, max_params=params - 1)


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_a_clash_with_a_name_of_timms_is_refused_loudly():
    program = """
import timm, sys, types
module = types.ModuleType("other_package"); sys.modules["other_package"] = module
def resnet14_cifar(pretrained=False, **kwargs): pass
resnet14_cifar.__module__ = "other_package"
timm.models.register_model(resnet14_cifar)
import budgetnets
"""
    result = run(program)
    assert result.returncode != 0
    assert "timm already has a model 'resnet14_cifar', registered by other_package" in result.stderr


def test_a_star_import_brings_the_public_names_alone():
    program = "from budgetnets import *; print(sorted(n for n in dir() if not n.startswith('_')))"
    result = run(program)
    assert result.stdout.strip() == str(sorted(budgetnets.__all__)), result.stderr


def test_importing_again_registers_nothing_twice():
    result = run(
        "import warnings; warnings.simplefilter('error'); import importlib, budgetnets; importlib.reload(budgetnets)"
    )
    assert result.returncode == 0, result.stderr


def test_no_module_has_a_public_functions_name():
    modules = {path.stem for path in Path(budgetnets.__file__).parent.glob("*.py")}
    assert not modules & set(budgetnets.__all__)


def test_importing_loads_nothing_heavy_beyond_timm():
    program = """
import sys, timm
before = set(sys.modules)
import budgetnets
print(sorted(name for name in set(sys.modules) - before if not name.startswith("budgetnets")))
"""
    loaded = run(program).stdout
    for heavy in ("torch.onnx", "torch._dynamo", "huggingface_hub", "torchvision.datasets", "tqdm", "numpy.", "PIL"):
        assert f"'{heavy}" not in loaded, heavy


def test_what_is_done_with_a_network_is_imported_when_it_is_asked_for():
    program = """
import sys, budgetnets
tools = ["budgetnets." + name for name in ("export", "publish", "search_results", "searching", "verification")]
assert not [tool for tool in tools if tool in sys.modules]
budgetnets.verify, budgetnets.searching  # a public name, and a module by itself
print([tool for tool in tools if tool in sys.modules])
for name in dir(budgetnets):
    getattr(budgetnets, name)
"""
    finished = run(program)
    assert finished.returncode == 0, finished.stderr
    assert "budgetnets.verification" in finished.stdout
