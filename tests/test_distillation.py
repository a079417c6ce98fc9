"""Claims about learning from a teacher: the papers' loss, an honest hold-out, and nothing else of a run changes."""

import argparse
import json

import pytest
import torch
from safetensors.torch import save_file
from training import OF_TIMM, TINY, assert_resumes_after, assert_same_weights, distillation, read_log, run, weights

import budgetnets

pytestmark = pytest.mark.usefixtures("train_in_process")
TEACHER = TINY.replace("[8, 16]", "[16, 16]") + " --epochs 2"
PLAIN = "--opt momentum --momentum 0 --weight-decay 0 --sched constant --warmup 0 --smoothing 0 --ema 0 --lr 0.1"


@pytest.fixture
def teacher(tmp_path):
    run(tmp_path / "teacher", TEACHER)
    return tmp_path / "teacher"


def teacher_network(folder):
    """The teacher's network, read without the code under test."""
    model = budgetnets.build_resnet(N=2, B=1, C=[16, 16])
    model.load_state_dict(weights(folder))
    return model.eval()


def plain_accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


@pytest.mark.parametrize(("share", "temperature"), [(0.5, 2.0), (0.9, 1.0), (1.0, 4.0)])
def test_the_loss_is_hintons(share, temperature, teacher):
    """The soft part is the teacher's cross-entropy less its entropy, at temperature T, times T squared."""
    images, own, logits = torch.randn(8, 3, 32, 32), torch.tensor(1.25), torch.randn(8, 10)
    make = distillation.make_loss(arguments(teacher, share, temperature), plain_accelerator())
    loss = make(own, logits, images)
    with torch.no_grad():
        p = torch.softmax(teacher_network(teacher)(images) / temperature, 1)
    q = torch.softmax(logits / temperature, 1)
    soft = (p * (p.log() - q.log())).sum(1).mean() * temperature**2
    torch.testing.assert_close(loss, (1 - share) * own + share * soft, rtol=1e-4, atol=1e-5)


def arguments(teacher, share, temperature):
    figures = {"mean": "0.4914,0.4822,0.4465", "std": "0.2470,0.2435,0.2616"}
    return argparse.Namespace(
        teacher=str(teacher), distill=share, temperature=temperature, holdout=0, compile=False, **figures
    )


def test_a_network_that_answers_as_its_teacher_does_has_nothing_to_learn(teacher):
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        answers = teacher_network(teacher)(images)
    loss = distillation.make_loss(arguments(teacher, 1.0, 2.0), plain_accelerator())
    assert loss(torch.tensor(7.0), answers, images).item() == pytest.approx(0.0, abs=1e-5)


def test_where_the_teacher_has_the_whole_loss_the_labels_do_not_count(teacher, tmp_path):
    """Smoothed labels are other targets; the weights come out the same."""
    options = f"{TINY} --epochs 2 --teacher {teacher} --distill 1"
    run(tmp_path / "hard", options, "--smoothing 0")
    run(tmp_path / "soft", options, "--smoothing 0.5")
    assert_same_weights(tmp_path / "hard", tmp_path / "soft")


@pytest.mark.slow
def test_a_network_comes_nearer_to_its_teacher_than_without_one(teacher, tmp_path):
    """A teacher of decided answers, whose classifier is made 30 times as steep."""
    steep = {name: value * (30 if name == "head.weight" else 1) for name, value in weights(teacher).items()}
    save_file(steep, teacher / "model.safetensors")
    options = f"{TINY} {PLAIN} --epochs 10 --eval-every 10"
    run(tmp_path / "alone", options)
    run(tmp_path / "taught", options, f"--teacher {teacher} --distill 1 --temperature 1")
    images = torch.randn(64, 3, 32, 32)
    distance = {}
    with torch.no_grad():
        answers = torch.log_softmax(teacher_network(teacher)(images), 1)
        for name in ("alone", "taught"):
            model = budgetnets.build_resnet(N=2, B=1, C=[8, 16])
            model.load_state_dict(weights(tmp_path / name))
            own = torch.log_softmax(model.eval()(images), 1)
            distance[name] = torch.nn.functional.kl_div(own, answers, reduction="batchmean", log_target=True).item()
    assert distance["taught"] < distance["alone"] / 2, distance


def test_the_teacher_itself_stays_as_it_is(teacher, tmp_path):
    before = (teacher / "model.safetensors").read_bytes()
    run(tmp_path / "run", TINY, "--epochs 1 --teacher", teacher)
    assert (teacher / "model.safetensors").read_bytes() == before
    assert read_log(tmp_path / "run")["args"]["teacher"] == str(teacher)


@pytest.mark.parametrize(
    "options",
    ["--fast --sizes 16x1 --cutmix 1", "--sam 0.05 --ema 0.9", "--mixup 0.4 --clip 1 --distill 0.9"],
    ids=["fast", "sam", "mixup"],
)
def test_a_run_that_was_stopped_resumes_to_the_same_numbers(options, teacher, tmp_path, monkeypatch):
    options = f"{TINY} --epochs 3 --lr 0.05 --teacher {teacher} {options}"
    assert_resumes_after(3, options, tmp_path, monkeypatch)  # in the second epoch


@pytest.mark.slow
def test_a_variant_with_weights_teaches_in_mixed_precision(tmp_path):
    """What is learned is nearly what fp32 learns: the loss of the whole run."""
    from accelerate.state import AcceleratorState

    options = f"{TINY} --epochs 1 --teacher resnet9_cifar --distill 1"
    plain = run(tmp_path / "fp32", options)["epochs"][0]["train_loss"]
    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = run(tmp_path / "bf16", options, "--precision bf16")["epochs"][0]["train_loss"]
    assert mixed != plain
    assert mixed == pytest.approx(plain, rel=0.02)


def test_any_network_of_timms_can_teach(tmp_path):
    run(tmp_path / "other", OF_TIMM)
    plain = run(tmp_path / "plain", f"{TINY} --epochs 1")["epochs"][0]
    taught = run(tmp_path / "taught", f"{TINY} --epochs 1 --teacher {tmp_path / 'other'}")["epochs"][0]
    assert taught["train_loss"] != plain["train_loss"]


@pytest.mark.slow
def test_a_compiled_teacher_teaches_the_same(teacher, tmp_path):
    options = f"{TINY} --epochs 1 --teacher {teacher} --sizes 16x1"
    plain = run(tmp_path / "eager", options)["epochs"][0]
    compiled = run(tmp_path / "compiled", options, "--compile")["epochs"][0]
    assert compiled["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-4)


# --- what is refused


def refusal(tmp_path, capsys, *options):
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "run", TINY, "--epochs 1", *options)
    return f"{stopped.value} {capsys.readouterr().err}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--teacher resnet9_cifra", ["'resnet9_cifra'", "did you mean 'resnet9_cifar'?", "no run's folder"]),
        ("--teacher resnet34_cifar", ["resnet34_cifar has no trained weights; use resnet9_cifar"]),
        ("--teacher resnet9_cifar.best", ["resnet9_cifar has no weights tagged 'best'", "no run's folder"]),
        ("--teacher resnet9_cifar --holdout 16", ["--holdout 0", "--holdout 16", "saw the held-out images"]),
        ("--teacher resnet9_cifar --std 0.2,0.2,0.2", ["another std", "--std 0.247,0.2435,0.2616"]),
        ("--teacher resnet9_cifar --distill 0", ["--distill 0.0", "more than 0, at most 1"]),
        ("--teacher resnet9_cifar --distill 1.5", ["--distill 1.5", "more than 0, at most 1"]),
        ("--teacher resnet9_cifar --temperature 0", ["--temperature 0.0", "such as 2"]),
        ("--teacher resnet9_cifar --temperature nan", ["--temperature nan", "such as 2"]),
        ("--distill 0.9", ["--distill 0.9 has no effect without --teacher"]),
        ("--temperature 4", ["--temperature 4.0 has no effect without --teacher"]),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_remedy(options, words, tmp_path, capsys):
    message = refusal(tmp_path, capsys, options)
    assert [word for word in words if word not in message] == []


def test_a_run_that_is_not_finished_teaches_nobody(teacher, tmp_path, capsys):
    log = read_log(teacher)
    log["epochs"].pop()
    (teacher / "log.json").write_text(json.dumps(log))
    message = refusal(tmp_path, capsys, "--teacher", teacher)
    assert "has 1 of its 2 epochs; go on with it first (--resume)" in message


@pytest.mark.parametrize("fault", ["no weights", "no JSON", "other weights"])
def test_a_broken_folder_is_named(fault, teacher, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    files = {name: (teacher / name).read_bytes() for name in ("log.json", "model.safetensors")}
    if fault == "no weights":
        del files["model.safetensors"]
    if fault == "no JSON":
        files["log.json"] = b"{"
    if fault == "other weights":
        files["log.json"] = files["log.json"].replace(b"[16, 16]", b"[16, 32]")
    for name, content in files.items():
        (broken / name).write_bytes(content)
    message = refusal(tmp_path, capsys, "--teacher", broken)
    assert f"--teacher {broken} is no run of train.py that can be read" in message


def test_a_hold_out_that_the_teacher_shared_is_allowed(tmp_path):
    run(tmp_path / "teacher", TEACHER, "--holdout 16")
    log = run(tmp_path / "run", TINY, "--epochs 1 --holdout 16 --teacher", tmp_path / "teacher")
    assert log["evaluated_on"] == "holdout"


def test_a_teacher_of_other_images_held_out_is_refused(tmp_path, capsys):
    run(tmp_path / "teacher", TEACHER, "--holdout 16")
    message = refusal(tmp_path, capsys, "--holdout 16 --limit 96 --teacher", tmp_path / "teacher")
    assert "was trained with --holdout 16 --limit 128, this run has --holdout 16 --limit 96" in message


def test_a_teacher_that_began_with_trained_weights_may_have_seen_the_hold_out(tmp_path, capsys):
    run(tmp_path / "teacher", TEACHER, "--holdout 16")
    log = read_log(tmp_path / "teacher")
    args = log["args"]
    args["model_args"] = json.dumps(json.loads(args["model_args"]) | {"checkpoint_path": "start.safetensors"})
    (tmp_path / "teacher" / "log.json").write_text(json.dumps(log))
    message = refusal(tmp_path, capsys, "--holdout 16 --teacher", tmp_path / "teacher")
    assert "began with trained weights, which may have seen the images that --holdout 16 keeps apart" in message


def test_a_run_that_stopped_early_is_finished_and_teaches(tmp_path):
    log = run(tmp_path / "teacher", TEACHER, "--holdout 16 --epochs 8 --early-stop 1 --lr 1e-9 --ema 0")
    assert len(log["epochs"]) == 2  # the second is no better than the first
    log = run(tmp_path / "run", TINY, "--epochs 1 --holdout 16 --teacher", tmp_path / "teacher")
    assert log["evaluated_on"] == "holdout"
