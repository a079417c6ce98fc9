"""`python -m budgetnets` does what the library does, and says what is wrong in one line."""

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

import budgetnets
from budgetnets import cli
from budgetnets.cli import CLOSED_PIPE, main
from budgetnets.variants import VARIANTS


def test_it_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "budgetnets", "list"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in budgetnets.list_models())


def test_a_reader_who_has_seen_enough_ends_it_quietly():
    """The read end is closed before anything is written, as by a `head` that has gone."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "budgetnets", "list"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert (result.returncode, result.stderr) == (CLOSED_PIPE, "")


@pytest.mark.parametrize("number", ["2000000", "2e6", "2_000_000"])
def test_every_command_reads_counts_alike(capsys, number):
    assert main(["list", "--max-params", number]) == 0
    assert "seresnet20_cifar" in capsys.readouterr().out
    assert main(["count", "seresnet20_cifar", "--max-params", number]) == 0
    assert main(["search", "--max-params", number, "--objective", "params", "-N", "2", "-B", "1", "-C", "8"]) == 0


@pytest.mark.parametrize("number", ["5M", "2.5", "nan", "inf"])
@pytest.mark.parametrize("command", ["list", "count", "search"])
def test_counts_that_are_no_whole_numbers_are_refused(capsys, command, number):
    with pytest.raises(SystemExit) as caught:
        main([command, "--max-params", number])
    assert caught.value.code == 2
    assert f"'{number}' is not a whole number; write one such as 5000000 or 5e6" in capsys.readouterr().err


def test_a_search_takes_choices_for_all_layers_and_for_each(capsys):
    common = ["search", "--objective", "params", "-C", "8", "-F", "3", "-K", "1", "-P", "1", "--growth", "1"]
    assert main([*common, "--se", "none", "-N", "3", "-B", "2,1/1/2"]) == 0
    options = {"objective": "params", "C": 8, "F": 3, "K": 1, "P": 1, "growth": 1, "se": None, "N": 3}
    assert capsys.readouterr().out.strip() == str(budgetnets.search(B=[2, [1, 1, 2]], **options))


@pytest.mark.parametrize("letter", ["B", "C", "F", "K"])
def test_a_choice_given_twice_is_answered_with_how_to_write_one_for_each_layer(capsys, letter):
    with pytest.raises(SystemExit) as caught:
        main(["search", f"-{letter}", "3,3"])
    assert caught.value.code == 2
    assert "'3,3' has a choice twice; with a number for each layer it is 3/3" in capsys.readouterr().err


@pytest.mark.parametrize("choices", ["a", "1,", "1//2", "1/1.5", "[1,2]"])
def test_choices_that_are_no_integers_are_refused(capsys, choices):
    with pytest.raises(SystemExit) as caught:
        main(["search", "-B", choices])
    assert caught.value.code == 2
    assert f"{choices!r} is not a list of integers such as 1,2 or 1/1/2" in capsys.readouterr().err


def test_the_help_of_the_search_says_how_choices_are_written(capsys):
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    assert "or a number for each: -B 2,1/1/2 is two blocks in all layers" in " ".join(capsys.readouterr().out.split())


def test_list_filters(capsys):
    assert main(["list", "se*", "--max-params", "2000000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["seresnet20_cifar"]
    assert "1,092,650" in lines[1]


@pytest.mark.parametrize("pattern", ["resnet9_cifar", "*9_cifar", "resnet9_cifar.*"])
def test_a_variants_name_finds_its_weights(capsys, pattern):
    assert main(["list", pattern, "--pretrained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [f"resnet9_cifar.{VARIANTS['resnet9_cifar'].weights[0].tag}"]


def test_a_search_takes_none_for_the_whole_maps_pool_and_for_no_attention(capsys):
    assert main(["search", "-N", "2", "-B", "1", "-C", "8", "-P", "none", "--se", "none", "--max-params", "1e5"]) == 0
    assert main(["search", "-N", "2", "-B", "1", "-C", "8", "-P", "none,8", "--max-params", "1e5"]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["search", "--se", "None"])
    assert "'None' is unknown; write none, stem or block" in capsys.readouterr().err


def test_without_an_output_it_ends_as_with_one():
    command = f"{sys.executable} -m budgetnets list >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_ends_it_quietly(monkeypatch, capsys):
    def stopped(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "card", stopped)
    assert main(["card", "resnet9_cifar"]) == 130  # as a shell has it
    assert capsys.readouterr() == ("", "")


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
        (["verify", "resnet50_cifar", "/nowhere"], "nothing to verify"),
        (["classify", "x.png", "--model", "resnet50_cifar"], "no trained weights"),
        (["classify", "x.png", "--model", os.curdir], "is a folder, not a variant; write 'local-dir:.'"),
        (["latency", os.curdir], "is a folder, not a variant; write 'local-dir:.'"),
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


def write_bomb(path):
    """Write a PNG of a few bytes that claims 30,000 x 30,000 pixels, which PIL refuses with an error of its own."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


@pytest.mark.parametrize("in_chans", [1, 3])
def test_classify_takes_a_network_of_ones_own_and_goes_on_after_any_bad_image(tmp_path, capsys, in_chans):
    model = budgetnets.build_resnet(2, 1, 8, num_classes=2, in_chans=in_chans)
    named = budgetnets.save_pretrained(model, tmp_path / "named", class_names=["cat", "dog"])
    unnamed = budgetnets.save_pretrained(model, tmp_path / "unnamed")
    bomb, good = tmp_path / "bomb.png", tmp_path / "good.png"
    write_bomb(bomb)
    Image.new("RGB", (50, 40), "red").save(good)
    for folder, names in (named, {"cat", "dog"}), (unnamed, {"class 0", "class 1"}):
        assert main(["classify", str(bomb), str(good), "--model", f"local-dir:{folder}"]) == 2
        captured = capsys.readouterr()
        assert f"{bomb} cannot be read as an image" in captured.err
        answers = captured.out.removeprefix(f"{good}: ").strip().split(", ")
        assert {answer.rsplit(" ", 2)[0] for answer in answers} == names


def test_classify_sees_the_same_picture_upright_and_with_its_rotation_noted_in_the_file(tmp_path, capsys):
    pixels = np.zeros((40, 60, 3), dtype="uint8")
    pixels[:, :25] = 250, 60, 60
    upright = Image.fromarray(pixels)
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    upright.rotate(90, expand=True).save(tmp_path / "noted.png", exif=exif)
    upright.convert("RGBA").save(tmp_path / "alpha.png")
    paths = [str(tmp_path / f"{name}.png") for name in ("upright", "noted", "alpha")]
    folder = budgetnets.save_pretrained(budgetnets.build_resnet(2, 1, 8), tmp_path / "net")
    assert main(["classify", *paths, "--model", f"local-dir:{folder}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    answers = {line.removeprefix(f"{path}: ") for line, path in zip(lines, paths, strict=True)}
    assert len(answers) == 1


def test_classify_refuses_a_network_without_a_classifier(tmp_path, capsys):
    folder = budgetnets.save_pretrained(budgetnets.build_resnet(2, 1, 8, num_classes=0), tmp_path / "net")
    assert main(["classify", "x.png", "--model", f"local-dir:{folder}"]) == 2
    assert "has no classifier (num_classes=0)" in capsys.readouterr().err


def test_release_publishes_nothing_unless_told_to(tmp_path, capsys):
    assert main(["release", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "written and checked" in out
    assert "nothing was published" in out


@pytest.mark.slow
def test_verify_prints_what_it_found(cifar10, capsys):
    assert main(["verify", "resnet9_cifar", cifar10]) == 0
    assert "as listed" in capsys.readouterr().out
