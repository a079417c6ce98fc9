"""Claims about train.py's options: what cannot be is refused before the training, and what changes is in the log."""

import pytest
import torch
from training import BARE, TINY, run, stopped_before, train, usage_error, words


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--sched CosineAnealingLR", "did you mean 'CosineAnnealingLR'"),
        ("--sched StepLR", "--warmup 0.2 has no effect on StepLR"),
        ("--sched LambdaLR", "--sched LambdaLR is no scheduler"),
        ("--sched step", """add --sched-args '{"decay_epochs": ...}'"""),
        ("--sched multistep", """add --sched-args '{"decay_milestones": ...}'"""),
        ("--warmup 1", "--warmup 1.0 is a share of the run"),
        ("--mix-prob 2", "--mix-prob 2.0 is a share; use 0 to 1"),
        ("--mix-until 0.9", "--mix-until 0.9 has no effect without --mixup or --cutmix"),
        ("--compile --compile-mode fast", "--compile-mode fast is unknown; use one of default, reduce-overhead"),
        ("--compile-mode max-autotune", "has no effect without --compile; add it"),
        ("--cutmix 1 --batch-size 5", "--batch-size 5 is odd, and images are mixed in pairs"),
        ("--sched-args T_max=3", "--sched-args T_max=3 is no JSON object"),
        ("--opt-args [1]", "--opt-args [1] is no JSON object"),
        ("--recipe R0-sgd --eval-every 2", "looks at every epoch's eval_loss; use --eval-every 1"),
        ("--reload-best", "add --holdout"),
        ("--recipe R1 --choose-on holdout", "add --holdout"),
        ("--recipe R1 --holdout 5000", "add --choose-on holdout"),
        ("--recipe R1 --ema 0.9", "add --ema 0"),
        ("--choose-on test", "no effect"),
        ("""--holdout 50 --model-args '{"pretrained": true}'""", "the trained weights have seen the images"),
        ("--holdout -5", "--holdout -5 is out of range; use 0 or more"),
        ("--clip -1", "--clip -1.0 is out of range; use 0 or more"),
        ("--eval-every 0", "--eval-every 0 is out of range; use 1 or more"),
        ("--epochs 0", "--epochs 0 is out of range; use 1 or more"),
        ("--batch-size 0", "--batch-size 0 is out of range"),
        ("--limit -3", "--limit -3 is out of range"),
        ("--seed -1", "--seed -1 is out of range"),
        ("--seed 50000", "--seed 50000 is out of range; use at most 40,000"),
        ("--lr -1", "--lr -1.0 is out of range; use 0 or more, such as 0.2"),
        ("--lr nan", "--lr nan is out of range"),
        ("--ema 1", "--ema 1.0 is a decay"),
        ("--smoothing 2", "--smoothing 2.0 is a share; use 0 to 1"),
        ("--sizes abc", "--sizes abc is no list of <pixels>x<epochs>; write it as 16x6,24x19"),
        ("--sizes 16", "--sizes 16 is no list"),
        ("--sizes 0x1", "--sizes 0x1 is no list"),
        ("--sizes 64x1", "--sizes 64x1 enlarges images of 32 pixels; use smaller ones"),
        ("--opt adahessian", "--opt adahessian needs second derivatives"),
        ("--choose-on train", "use holdout or test"),
        ("--crop 32", "--crop 32 is out of range; use at most 31"),
        ("--translate 2", "--translate 2.0 is a share; use 0 to 1"),
        ("--precision fp8", "--precision fp8 is unknown; use no or bf16"),
        ("--momentum 1", "--momentum 1.0 is out of range; use less than 1"),
        ("--opt adam --momentum 0.5", "--momentum 0.5 has no effect on adam"),
        ("--opt lookahead_adam --momentum 0.5", "--momentum 0.5 has no effect on lookahead_adam"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_the_remedy(capsys, options, said):
    assert said in usage_error(capsys, options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--model resnet9", "--model resnet9 is unknown; did you mean 'resnet9_cifar'?"),
        ("""--model budget_resnet --model-args '{"N": 2}'""", "B and C"),
        ("""--model-args '{"num_classes": 5}'""", "5 classes and 3 channels; CIFAR-10 has 10"),
        ("""--model-args '{"features_only": true}'""", "gives a FeatureListNet, which has no classifier to train"),
        ("""--model-args '{"checkpoint_path": "nowhere.safetensors"}'""", "nowhere.safetensors"),
        ("--opt foo", "--opt foo"),
        ("""--opt-args '{"foo": 1}'""", "foo"),
        ("""--opt-args '{"eps": 1}'""", "nesterov takes no eps"),
        ("--holdout 64", "--holdout 64 leaves none of the 64 training images"),
        ("--opt fusedadam", "--opt fusedadam --opt-args {}: "),
        ("--auto-augment foo", "--auto-augment foo is nothing that timm can do"),
        ("--auto-augment rand-mx", "'mx' is no letters and a number"),
        ("--auto-augment rand-m6-mstdx", "'mstdx' is no letters and a number"),
        ("--auto-augment rand-inc1", "--auto-augment rand-inc1 is nothing that timm can do"),
    ],
)
@pytest.mark.usefixtures("train_in_process")
def test_what_timm_does_not_know_is_refused_before_the_training(options, said, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        train.main(words("--data fake --cpu --workers 0 --limit 64 --batch-size 32 --out", tmp_path, options))
    assert said in str(stopped.value)
    assert not (tmp_path / "log.json").exists()


def test_a_run_that_sees_no_whole_image_is_noted(capsys):
    for sizes, noted in (("16x1", False), ("16x1,24x1", True), ("16x9", True)):
        train.parse_args(words("--epochs 2 --out nowhere --sizes", sizes))
        assert (f"--sizes {sizes} leaves none of --epochs 2 at 32 pixels" in capsys.readouterr().err) == noted


@pytest.mark.usefixtures("train_in_process")
def test_a_run_that_goes_on_in_another_way_says_from_when_on(tmp_path, monkeypatch):
    options = f"{TINY} {BARE} --epochs 2 --eval-every 2"
    with stopped_before(3, monkeypatch):
        run(tmp_path, options)
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)  # which takes long
    log = run(tmp_path, options, "--resume --compile --compile-mode default")
    (change,) = log["continued"]
    assert (log["compiled"], change["after_epoch"], change["compiled"]) == (False, 1, "default")


@pytest.mark.usefixtures("train_in_process")
def test_a_run_stops_early_only_after_evaluations_that_got_no_better(tmp_path):
    log = run(tmp_path, f"{TINY} {BARE} --epochs 12 --holdout 16 --early-stop 2 --eval-every 4 --lr 1e-9")
    assert len(log["epochs"]) == 8
    assert "eval_top1" in log["epochs"][-1]
