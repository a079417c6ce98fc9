"""A spec validates itself, prints itself, and goes to JSON and back."""

import dataclasses
import inspect
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from family import specs
from hypothesis import given

import budgetnets
from budgetnets import ResNetSpec, build_resnet
from budgetnets.spec import LETTERS, OPTIONS

GOOD = {"N": 3, "B": [2, 2, 2], "C": [8, 16, 32]}


def make(**changes):
    return ResNetSpec.from_dict(GOOD | changes)


@given(specs())
def test_any_spec_survives_json(spec):
    assert ResNetSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(ResNetSpec.from_dict(spec.to_dict())) == hash(spec)


@given(specs())
def test_what_a_spec_writes_is_what_build_resnet_takes(spec):
    assert build_resnet(**spec.to_dict()).spec == spec


def test_scalars_stand_for_all_layers():
    assert ResNetSpec.from_letters(3, 2, 8, 5, 3) == ResNetSpec.from_letters(3, [2] * 3, [8] * 3, [5] * 3, [3] * 3)


@pytest.mark.parametrize(
    "sequence", [tuple, np.array, torch.tensor, lambda v: np.array(v, dtype=np.int8), lambda v: dict.fromkeys(v).keys()]
)
def test_any_sequence_of_integers_will_do(sequence):
    assert ResNetSpec.from_letters(3, sequence([1, 2, 3]), sequence([8, 16, 32])) == ResNetSpec.from_letters(
        3, [1, 2, 3], [8, 16, 32]
    )


def test_numpy_scalars_become_plain_integers():
    spec = ResNetSpec.from_letters(
        np.int64(2), np.int32(1), np.uint8(8), num_classes=np.int64(5), drop_rate=np.float32(0.5)
    )
    assert json.dumps(spec.to_dict())
    assert type(spec.num_classes) is int


@pytest.mark.parametrize(("n", "p"), [(1, 32), (2, 16), (3, 8), (4, 4), (5, 2), (6, 1)])
def test_without_p_the_pool_follows_the_reports_formula(n, p):
    assert ResNetSpec.from_letters(n, 1, 8).pool_size == p == 32 // 2 ** (n - 1)


def test_without_p_the_pool_takes_the_real_final_map():
    assert ResNetSpec.from_letters(3, 1, 8, strides=[1, 2, 1]).pool_size == 16
    assert ResNetSpec.from_letters(3, 1, 8, input_size=33).pool_size == 9


@pytest.mark.parametrize(
    ("change", "side"), [({"input_size": 16}, 4), ({"input_size": 64}, 16), ({"strides": [1, 2, 4]}, 4), ({}, 8)]
)
@pytest.mark.parametrize("p", [None, 8])
def test_a_pool_over_the_whole_map_stays_one_whatever_the_maps_side_becomes(change, side, p):
    spec = ResNetSpec.from_letters(3, 1, [8, 16, 32], P=p)
    assert spec.replace(**change).pool_size == side
    assert budgetnets.count_params(spec, **change) == budgetnets.count_params(3, 1, [8, 16, 32], **change) == 19_954


def test_a_smaller_pool_keeps_its_side():
    spec = ResNetSpec.from_letters(3, 1, 8, P=4)
    assert spec.replace(input_size=64).pool_size == 4
    with pytest.raises(ValueError, match="P=4 does not divide the final 6x6 map"):
        spec.replace(input_size=24)


def test_a_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().num_classes = 5


def test_build_resnet_offers_exactly_the_specs_options_with_its_defaults():
    parameters = inspect.signature(build_resnet).parameters
    defaults = {f.name: f.default for f in dataclasses.fields(ResNetSpec)}
    assert set(parameters) == {"N", *LETTERS, *OPTIONS, "max_params", "unknown"}
    for name in OPTIONS:
        assert parameters[name].default == defaults[name], name
    for letter in ("F", "K", "P"):
        assert parameters[letter].default == defaults[LETTERS[letter]], letter


def test_a_spec_prints_a_line_per_stage():
    text = str(ResNetSpec.from_letters(3, [4, 4, 3], [64, 128, 256], P=8, se="stem"))
    lines = text.splitlines()
    assert "3x32x32 input" in lines[0]
    assert "squeeze-and-excitation in the stem" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["stage", "stem", "stage", "stage", "stage", "head"]
    assert re.search(r"stage 2 +16x16 +4 +128 +3 +1 +2$", text, re.M)
    assert "identity" in lines[3]
    assert "pool 8, 10 classes" in lines[-1]


# Each refusal: what is changed, the error's class, and what its message must hold (value, rule, remedy).
REFUSED = [
    ({"B": [2, 2]}, ValueError, ["B", "2 entries", "N=3", "one per layer"]),
    ({"B": [2, 2, 2, 2]}, ValueError, ["4 entries", "N=3"]),
    ({"C": [8, 16]}, ValueError, ["C", "2 entries"]),
    ({"F": [3, 3]}, ValueError, ["F", "2 entries"]),
    ({"K": [1, 1, 1, 1]}, ValueError, ["K", "4 entries"]),
    ({"strides": [1, 2]}, ValueError, ["strides", "2 entries"]),
    ({"B": []}, ValueError, ["0 entries"]),
    ({"C": []}, ValueError, ["0 entries"]),
    ({"F": 2}, ValueError, ["F", "2", "even", "1 or 3"]),
    ({"F": [3, 4, 3]}, ValueError, ["[1]=4", "even", "3 or 5"]),
    ({"K": 2}, ValueError, ["K", "even"]),
    ({"F": 33}, ValueError, ["33", "32x32", "at most 32"]),
    ({"K": [1, 1, 35]}, ValueError, ["K", "[2]=35", "32x32"]),
    ({"B": [2, 0, 2]}, ValueError, ["[1]=0", "1 to"]),
    ({"B": [2, -1, 2]}, ValueError, ["-1"]),
    ({"C": [8, 16, 10_000_000]}, ValueError, ["10000000", "65,536"]),
    ({"B": 10**9}, ValueError, ["1000000000"]),
    ({"N": 10**9}, ValueError, ["N=1000000000", "1 to 64"]),
    ({"N": 0}, ValueError, ["N=0"]),
    ({"N": True}, TypeError, ["N=True", "bool"]),
    ({"N": 3.0}, TypeError, ["3.0", "float"]),
    ({"N": "3"}, TypeError, ["'3'", "str"]),
    ({"B": [2, True, 2]}, TypeError, ["True", "bool"]),
    ({"B": [2, np.bool_(True), 2]}, TypeError, ["True"]),
    ({"B": [2, 2.0, 2]}, TypeError, ["2.0", "float"]),
    ({"B": np.array([2.0, 2.0, 2.0])}, TypeError, ["2.0"]),
    ({"C": ["8", "16", "32"]}, TypeError, ["'8'", "str"]),
    ({"C": "888"}, TypeError, ["'888'"]),
    ({"C": [[8], [16], [32]]}, TypeError, ["[8]", "list"]),
    ({"C": {8: 1, 16: 2, 32: 3}}, TypeError, ["sequence"]),
    ({"C": {8, 16, 32}}, TypeError, ["sequence"]),
    ({"C": None}, TypeError, ["None"]),
    ({"strides": [1, 0, 2]}, ValueError, ["strides[1]=0"]),
    ({"P": 3}, ValueError, ["P=3", "8x8", "1, 2, 4, 8"]),
    ({"P": 16}, ValueError, ["P=16", "8x8"]),
    ({"P": 0}, ValueError, ["0"]),
    ({"P": True}, TypeError, ["True"]),
    ({"P": 2.0}, TypeError, ["2.0"]),
    ({"drop_rate": float("nan")}, ValueError, ["drop_rate=nan", "0 to 1"]),
    ({"drop_rate": -0.1}, ValueError, ["-0.1"]),
    ({"block_drop_rate": 1.1}, ValueError, ["block_drop_rate=1.1"]),
    ({"drop_path_rate": True}, TypeError, ["drop_path_rate=True"]),
    ({"drop_rate": "0.1"}, TypeError, ["'0.1'"]),
    ({"drop_rate": None}, TypeError, ["None"]),
    ({"num_classes": -1}, ValueError, ["-1", "headless"]),
    ({"num_classes": 10.0}, TypeError, ["10.0"]),
    ({"num_classes": True}, TypeError, ["True"]),
    ({"num_classes": 10**9}, ValueError, ["1,000,000"]),
    ({"in_chans": 0}, ValueError, ["in_chans=0"]),
    ({"input_size": 2, "F": 1}, ValueError, ["input_size=2", "smallest that works is 3"]),
    ({"input_size": 5, "strides": [1, 7, 1]}, ValueError, ["strides=[1, 7, 1]", "smallest that works is 7"]),
    ({"input_size": (32, 32)}, TypeError, ["(32, 32)"]),
    ({"se": "blocks"}, ValueError, ["'blocks'", "did you mean 'block'?"]),
    ({"se": True}, TypeError, ["True", "'stem'"]),
    ({"se_reduction": 0}, ValueError, ["se_reduction=0"]),
    ({"se_bias": 1}, TypeError, ["se_bias=1"]),
    ({"block": "basicblock"}, ValueError, ["did you mean 'basic'?"]),
    ({"act": "rellu"}, ValueError, ["did you mean 'relu'?"]),
    ({"norm": "layernorm"}, ValueError, ["did you mean 'layernorm2d'?"]),
    ({"norm": "groupnorm"}, ValueError, ["groupnorm1", "32"]),
    ({"norm": "groupnorm", "C": 32, "strides": [1, 8, 4]}, ValueError, ["1x1 map of 32 channels", "at least 64"]),
    ({"norm": "groupnorm1", "C": 1, "strides": [1, 8, 4]}, ValueError, ["single value", "at least 2"]),
    ({"init": "kaiming"}, ValueError, ["'he'"]),
    ({"drop_rat": 0.1}, TypeError, ["'drop_rat'", "did you mean 'drop_rate'?"]),
    ({"global_pool": "avg"}, TypeError, ["'global_pool'", "options are"]),
]


@pytest.mark.parametrize(("change", "error", "holds"), REFUSED, ids=[str(row[0])[:60] for row in REFUSED])
@pytest.mark.parametrize(
    "entry", [make, lambda **change: build_resnet(**GOOD | change)], ids=["from_dict", "build_resnet"]
)
def test_a_bad_value_is_refused_with_value_rule_and_remedy(change, error, holds, entry):
    with pytest.raises(error) as caught:
        entry(**change)
    for part in holds:
        assert part in str(caught.value), str(caught.value)


@pytest.mark.parametrize("missing", ["N", "B", "C"])
def test_a_dictionary_without_a_required_letter_is_refused_by_name(missing):
    with pytest.raises(TypeError, match=f"has no {missing}"):
        ResNetSpec.from_dict({key: value for key, value in GOOD.items() if key != missing})


@pytest.mark.parametrize("values", [None, [3, 1, 8], "N", 3])
def test_what_is_no_mapping_is_refused(values):
    with pytest.raises(TypeError, match="mapping"):
        ResNetSpec.from_dict(values)


def test_a_skip_kernel_and_a_kernel_may_be_larger_than_a_later_map():
    spec = ResNetSpec.from_letters(6, 1, 8, F=3, K=9)
    assert spec.final_size == 1
    assert build_resnet(**spec.to_dict())(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_max_params_refuses_before_building_and_says_by_how_much():
    with pytest.raises(ValueError, match=r"11,173,962 parameters, 6,173,962 over max_params=5,000,000"):
        build_resnet(4, 2, [64, 128, 256, 512], max_params=5_000_000)
    for nonsense in (0, -1, True, 1.5, float("inf"), "5M"):
        with pytest.raises((TypeError, ValueError), match="max_params="):
            build_resnet(2, 1, 8, max_params=nonsense)


@pytest.mark.parametrize(("given", "missing"), [((), "N, B, C"), ((3,), "B, C"), ((3, 2), "C")])
def test_what_describes_no_network_is_answered_with_what_does(given, missing):
    with pytest.raises(TypeError, match=rf"^{missing} missing, without which .* a spec \(model.spec\), or N, B, C"):
        budgetnets.count_params(*given)


def test_what_no_memory_could_hold_is_refused_before_anything_is_allocated():
    with pytest.raises(ValueError, match="over max_params=500,000,000"):
        build_resnet(2, 1000, 65_536)


def test_the_specs_module_needs_no_torch():
    # Without the package's __init__, which registers with timm; a None in sys.modules makes `import torch` fail.
    program = """
import sys, types
sys.modules["torch"] = sys.modules["timm"] = sys.modules["numpy"] = None
package = sys.modules["budgetnets"] = types.ModuleType("budgetnets")
package.__path__ = [sys.argv[1]]
from budgetnets.counts import count_params
assert count_params("resnet9_cifar") == 4_903_242
"""
    subprocess.run([sys.executable, "-c", program, str(Path(budgetnets.__file__).parent)], check=True)
