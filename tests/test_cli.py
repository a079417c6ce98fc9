"""`python -m budgetnets` does what the library does, and says what is wrong in one line."""

import subprocess
import sys

import pytest
from PIL import Image

import budgetnets
from budgetnets.cli import main
from budgetnets.variants import VARIANTS

HAS_WEIGHTS = bool(VARIANTS["resnet9_cifar"].weights)


def test_it_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "budgetnets", "list"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in budgetnets.list_models())


def test_list_filters(capsys):
    assert main(["list", "se*", "--max-params", "2000000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["seresnet20_cifar"]
    assert "1,092,650" in lines[1]


def test_card_prints_the_card(capsys):
    assert main(["card", "resnet24_sestem_cifar"]) == 0
    assert capsys.readouterr().out.strip() == str(budgetnets.card("resnet24_sestem_cifar"))


@pytest.mark.parametrize(
    "arguments",
    [["resnet24_sestem_cifar"], ["-N", "3", "-B", "4,4,3", "-C", "64,128,256", "-P", "8", "--se", "stem"]],
)
def test_count_takes_a_name_or_the_letters(capsys, arguments):
    assert main(["count", *arguments]) == 0
    out = capsys.readouterr().out
    assert "4,697,742" in out
    assert f"{budgetnets.count_macs('resnet24_sestem_cifar'):,}" in out
    assert "stage 3" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["card", "resnet9"], "did you mean 'resnet9_cifar'?"),
        (["count"], "give a variant's name, or the letters"),
        (["count", "resnet9_cifar", "-N", "3"], "give a variant's name, or the letters"),
        (["count", "-N", "3", "-B", "2,2", "-C", "8"], "2 entries, but N=3"),
        (["count", "resnet18_cifar", "--max-params", "5000000"], "6,173,962 over max_params"),
        (["verify", "resnet26_cifar", "/nowhere"], "nothing to verify"),
        (["classify", "x.png", "--model", "resnet26_cifar"], "no trained weights yet"),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_one_line(capsys, arguments, message):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("letters", ["a,b", "1,,2", "1.5", "__import__('os')"])
def test_letters_that_are_no_integers_are_refused(capsys, letters):
    with pytest.raises(SystemExit) as caught:
        main(["count", "-N", "2", "-B", letters, "-C", "8"])
    assert caught.value.code == 2
    assert "integers" in capsys.readouterr().err


@pytest.mark.skipif(not HAS_WEIGHTS, reason="not trained yet")
def test_classify_answers_for_each_image_and_names_the_bad_one(tmp_path, capsys):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("L", (50, 40), 128).save(good)
    bad.write_text("no image")
    assert main(["classify", str(good)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{good}: ")
    assert out.count("%") == 5
    assert main(["classify", str(good), str(bad)]) == 2
    captured = capsys.readouterr()
    assert str(good) in captured.out
    assert str(bad) in captured.err


@pytest.mark.skipif(not HAS_WEIGHTS, reason="not trained yet")
def test_release_publishes_nothing_unless_told_to(tmp_path, capsys):
    assert main(["release", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "written and checked" in out
    assert "nothing was published" in out


@pytest.mark.slow
@pytest.mark.skipif(not HAS_WEIGHTS, reason="not trained yet")
def test_verify_prints_what_it_found(cifar10, capsys):
    assert main(["verify", "resnet9_cifar", cifar10]) == 0
    assert "as listed" in capsys.readouterr().out
