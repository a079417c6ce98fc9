"""Claims about the reports' recipes: each runs, as its report says, and a run of it can be stopped and resumed."""

import json
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.optim import SGD, Adagrad, Adam, RMSprop, lr_scheduler
from training import BARE, TINY, recipes, run, train, usage_error, weights, words

from budgetnets.rows import BUDGET
from budgetnets.variants import VARIANTS

pytestmark = pytest.mark.usefixtures("train_in_process")
RECIPES = {name: recipe for name, recipe in recipes.load().items() if "like" not in recipe}  # the reports'
BEYOND = {name: recipe for name, recipe in recipes.load().items() if "like" in recipe}
SGD_9 = {"momentum": 0.9, "weight_decay": 5e-4}
COSINE_200 = (lr_scheduler.CosineAnnealingLR, {"T_max": 200})
COSINE_60 = (lr_scheduler.CosineAnnealingLR, {"T_max": 60})
PLATEAU = (lr_scheduler.ReduceLROnPlateau, {})
NOTHING = (lr_scheduler.ConstantLR, {"factor": 1.0})

# What a script of the report's authors would have built: optimizer, schedule and epochs, in torch's own classes.
SCRIPTS = {
    "R0-base": (SGD, SGD_9 | {"lr": 0.1}, COSINE_200, 100),
    "R0-initial": (Adam, {"lr": 1e-3}, NOTHING, 100),
    "R0-adam": (Adam, {"lr": 0.1}, PLATEAU, 100),
    "R0-sgd": (SGD, SGD_9 | {"lr": 0.1}, PLATEAU, 100),
    "R0-adagrad": (Adagrad, {"lr": 0.1}, PLATEAU, 100),
    "R0-rmsprop": (RMSprop, {"lr": 0.1}, PLATEAU, 100),
    "R0-deep": (SGD, SGD_9 | {"lr": 0.1}, PLATEAU, 100),
    "R0-deep-alt": (SGD, SGD_9 | {"lr": 0.1}, PLATEAU, 100),
    "R0-shallow": (SGD, SGD_9 | {"lr": 0.1}, PLATEAU, 100),
    "R1": (SGD, SGD_9 | {"lr": 0.01}, NOTHING, 100),
    "R2": (SGD, SGD_9 | {"lr": 0.1}, COSINE_200, 30),
    "R2-plain": (SGD, SGD_9 | {"lr": 0.1}, COSINE_200, 30),
    "R3-18": (SGD, SGD_9 | {"lr": 0.1}, COSINE_200, 50),
    "R3-34": (SGD, SGD_9 | {"lr": 0.05}, COSINE_200, 50),
    "R3-50": (SGD, SGD_9 | {"lr": 0.03}, COSINE_200, 40),
    "R3-101": (SGD, SGD_9 | {"lr": 0.02}, COSINE_200, 40),
    "R3-152": (SGD, SGD_9 | {"lr": 0.02}, COSINE_200, 40),
    "R3-V1-sgd": (SGD, SGD_9 | {"lr": 0.1}, COSINE_60, 60),
    "R3-V1-adam": (Adam, {"lr": 0.1}, COSINE_60, 60),
    "R3-V2-sgd": (SGD, SGD_9 | {"lr": 0.1}, COSINE_60, 60),
    "R3-V2-adam": (Adam, {"lr": 0.1}, COSINE_60, 60),
    "R4": (SGD, {"momentum": 0.9, "weight_decay": 1e-4, "lr": 0.008}, COSINE_200, 200),
    "R4-base": (SGD, {"momentum": 0.9, "weight_decay": 1e-4, "lr": 0.008}, COSINE_200, 200),
}
DEEPEST = ("R3-34", "R3-50", "R3-101", "R3-152")
TINY = f"{TINY} {BARE}"


def options_of(*options):
    return train.parse_args([*words(*options), "--out", "nowhere"])


# --- recipes.toml


def test_there_is_one_recipe_for_each_run_and_one_run_for_each_recipe():
    assert sorted(RECIPES) == sorted(SCRIPTS)
    assert len(RECIPES) == 23
    assert all(recipe["epochs"] == SCRIPTS[name][3] for name, recipe in RECIPES.items())


@pytest.mark.parametrize("row", VARIANTS.values(), ids=lambda row: row.name)
def test_each_figure_of_the_zoos_table_has_the_recipe_of_its_network(row):
    for reported in row.reported:
        assert RECIPES[reported.run]["model"] == row.name


@pytest.mark.parametrize("name", RECIPES | BEYOND)
def test_a_recipe_has_only_options_of_the_script_and_they_are_what_runs(name):
    args = vars(options_of(f"--recipe {name}"))
    for key, value in (RECIPES | BEYOND)[name].items():
        if key not in ("report", "like"):
            resolved = args[key.replace("-", "_")]
            assert (json.loads(resolved) if isinstance(value, dict) else resolved) == value
    assert args["recipe"] == name


@pytest.mark.parametrize("name", BEYOND)
def test_a_run_beyond_the_reports_departs_from_one_of_theirs_and_says_why(name):
    own = BEYOND[name]
    theirs = RECIPES[own["like"]]
    assert name.startswith(own["like"].split("-")[0])
    changed = {key for key in own if own[key] != theirs.get(key)} - {"report", "like"}
    assert changed
    assert own["report"] != theirs.get("report")


def test_a_mistake_in_the_file_is_named_with_the_recipe():
    defaults = {"model": "resnet9_cifar", "epochs": 32}
    with pytest.raises(SystemExit, match=r"recipe X has 'modle', .*did you mean 'model'"):
        recipes.values("X", {"modle": "resnet9_cifar"}, defaults)
    with pytest.raises(SystemExit, match=r"X has epochs = '30'; it must be of type int"):
        recipes.values("X", {"epochs": "30"}, defaults)


# --- --recipe


def test_the_list_shows_the_reports_recipes_and_apart_from_them_the_others_and_needs_no_folder(capsys):
    with pytest.raises(SystemExit) as exit_:
        train.parse_args(["--recipe", "list"])
    assert not exit_.value.code
    parts = capsys.readouterr().out.split("\n\n")
    lines, others = (part.strip().splitlines() for part in parts)
    assert [line.split()[0] for line in lines[2:]] == list(RECIPES)
    assert [line.split()[0] for line in others[1:]] == list(BEYOND)
    line = next(line for line in lines if line.startswith("R2 "))
    assert " ".join(line.split()) == "R2 resnet24_sestem_cifar lookahead_momentum 0.1 CosineAnnealingLR (T_max 200) 30"


def test_an_unknown_recipe_is_answered_with_the_nearest(capsys):
    message = usage_error(capsys, "--recipe R3-V2-sdg")
    assert "--recipe R3-V2-sdg is unknown; did you mean 'R3-V2-sgd'?" in message


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_the_defaults():
    args = options_of("""--recipe R3-V2-sgd --lr 0.3 --no-decay-all --sched-args '{"T_max": 5}'""")
    assert (args.lr, args.decay_all, args.sched_args) == (0.3, False, '{"T_max": 5}')
    assert (args.batch_size, args.opt, args.ema) == (128, "momentum", 0.0)
    default = options_of()
    assert (default.batch_size, default.opt, default.ema, default.lr) == (256, "nesterov", 0.998, 0.2)


def test_without_a_folder_nothing_starts(capsys):
    with pytest.raises(SystemExit):
        train.parse_args(["--recipe", "R1"])
    assert "--out" in capsys.readouterr().err


def test_a_logs_options_as_words_are_that_runs_again():
    args = options_of("--recipe R2 --lr", train.defaults()["lr"])  # a default in place of the recipe's value
    again = options_of(shlex.join(recipes.as_words(vars(args), train.defaults(), {"out"})))
    assert {**vars(again), "recipe": args.recipe} == vars(args)


# --- what runs


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEEPEST)) for n in RECIPES])
def test_every_recipe_trains_with_the_optimizer_of_its_report(name, tmp_path, monkeypatch):
    built = []

    class Watched(recipes.Schedule):
        def __init__(self, args, optimizer, updates):
            built.append((optimizer, [dict(group) for group in optimizer.param_groups]))
            super().__init__(args, optimizer, updates)

    monkeypatch.setattr(recipes, "Schedule", Watched)
    holdout = "--holdout 12" if RECIPES[name].get("holdout") else ""
    log = run(tmp_path / "run", f"--recipe {name} --limit 20 --batch-size 4 --epochs 2", holdout)
    assert [entry["epoch"] for entry in log["epochs"]] == [1, 2]
    assert log["params"] == VARIANTS[RECIPES[name]["model"]].params
    assert log["args"]["recipe"] == name
    assert log["args"]["lr"] == RECIPES[name]["lr"]
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())

    ((optimizer, groups),) = built
    kind, arguments, _, _ = SCRIPTS[name]
    base = optimizer._base_optimizer if name.startswith("R2") else optimizer
    assert type(base) is kind
    theirs = kind([torch.nn.Parameter(torch.zeros(1))], **arguments)
    for group in groups:
        assert {key: group[key] for key in theirs.defaults} == theirs.defaults
    numbers = sum(p.numel() for group in groups for p in group["params"])
    assert numbers == log["params"]


@pytest.mark.parametrize("name", [n for n in BEYOND if n != "R3-V1-sgd-carried"])
def test_every_run_beyond_the_reports_trains_within_the_budget(name, tmp_path):
    log = run(tmp_path / "run", f"--recipe {name} --limit 8 --batch-size 4 --epochs 1")
    assert log["params"] <= BUDGET
    assert log["args"]["recipe"] == name


def test_a_network_is_carried_over_from_the_run_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = "--limit 8 --batch-size 4 --epochs 1"
    run(Path("runs/R3-V1-adam"), "--recipe R3-V1-adam", few)
    run(Path("runs/carried"), "--recipe R3-V1-sgd-carried --lr 1e-12", few)
    before, after = (weights(Path("runs", name)) for name in ("R3-V1-adam", "carried"))
    torch.testing.assert_close(after["head.weight"], before["head.weight"])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_learning_rates_of_its_reports_script(name):
    """Over all its epochs, with losses that stagnate now and then."""
    args = options_of(f"--recipe {name}")
    _, _, (kind, arguments), epochs = SCRIPTS[name]
    ours, theirs = (SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.lr) for _ in range(2))
    schedule, script = recipes.Schedule(args, ours, updates=3), kind(theirs, **arguments)
    losses = [2.0 - 0.1 * min(epoch, 10) + 0.01 * (epoch > 40) for epoch in range(epochs)]
    rates, expected = [], []
    for epoch, loss in enumerate(losses):
        for update in range(3):
            schedule.before_update(3 * epoch + update + 1)
            ours.step()
        theirs.step()
        rates.append(ours.param_groups[0]["lr"])
        expected.append(theirs.param_groups[0]["lr"])
        schedule.after_epoch({"eval_loss": loss, "train_loss": 0.0})
        script.step(*([loss] if kind is lr_scheduler.ReduceLROnPlateau else []))
    assert rates == expected
    assert len(set(rates)) == 1 or kind is not NOTHING[0]
    if kind is lr_scheduler.ReduceLROnPlateau:
        assert rates[-1] < rates[0] / 9


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("CosineAnnealingLR", {"T_max": 20}),  # stopped before its end
        ("CosineAnnealingLR", {"T_max": 3}),  # rises again
        ("StepLR", {"step_size": 2, "gamma": 0.5}),
        ("ReduceLROnPlateau", {"factor": 0.1, "patience": 0}),
        ("ReduceLROnPlateau", {"factor": 0.5, "patience": 0, "threshold": 0.1, "watch": "train_loss"}),
    ],
)
def test_the_logged_learning_rates_are_those_of_torchs_own_scheduler(name, arguments, tmp_path):
    schedule = f"--sched {name} --sched-args '{json.dumps(arguments)}' --lr 0.1 --epochs 7"
    log = run(tmp_path / "run", TINY, schedule)
    watch = arguments.pop("watch", "eval_loss")
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, expected = getattr(lr_scheduler, name)(optimizer, **arguments), []
    for entry in log["epochs"]:
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*([entry[watch]] if name == "ReduceLROnPlateau" else []))
    assert [entry["lr"] for entry in log["epochs"]] == expected
    assert len(set(expected)) > 1


def rates(options, updates=10):
    """The learning rate at each update of a run, of which the first has number 1."""
    args = options_of(options)
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.lr)
    schedule, found = recipes.Schedule(args, optimizer, updates), []
    for step in range(1, updates * args.epochs + 1):
        schedule.before_update(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_the_rate_rises_to_its_peak_and_falls_from_there_in_a_line_to_zero():
    found = rates("--lr 0.2 --epochs 10 --warmup 0.2")
    expected = [0.01 * step for step in range(1, 21)] + [0.2 * (100 - step) / 80 for step in range(21, 101)]
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_cosine_falls_from_the_peak_too():
    found = rates("--lr 0.2 --epochs 10 --warmup 0.2 --sched cosine")
    assert found[19] == pytest.approx(0.2)
    assert found[59] == pytest.approx(0.1)
    assert max(abs(a - b) for a, b in pairwise(found)) <= 0.0101
    assert found[-1] == pytest.approx(0.0, abs=1e-4)


def test_steps_step():
    found = rates("""--lr 0.2 --epochs 10 --warmup 0 --sched step --sched-args '{"decay_epochs": 4}'""")
    assert sorted(set(found), reverse=True) == pytest.approx([0.2, 0.02, 0.002])


@pytest.mark.parametrize(
    ("watched", "rates"),
    [
        ({"watch": "train_top1"}, [1, 1, 1]),
        ({"watch": "eval_top1"}, [1, 1, 0.5]),
        ({"watch": "eval_loss"}, [1, 1, 0.5]),
        ({"watch": "train_loss"}, [1, 1, 1]),
        ({"watch": "train_top1", "mode": "min"}, [1, 1, 0.5]),
        ({}, [1, 1, 0.5]),
    ],
)
def test_the_rate_falls_when_a_watched_loss_does_not_and_when_a_watched_accuracy_does_not_rise(watched, rates):
    arguments = json.dumps(watched | {"patience": 0, "factor": 0.5})
    args = options_of(f"--sched ReduceLROnPlateau --warmup 0 --sched-args '{arguments}'")
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1)
    schedule, found = recipes.Schedule(args, optimizer, updates=1), []
    for epoch in range(3):  # it learns its training images, and gets worse on the others
        found.append(optimizer.param_groups[0]["lr"])
        better, worse = {"train_loss": 1 / (1 + epoch), "train_top1": 10.0 + epoch}, {"eval_top1": 10.0 - epoch}
        schedule.after_epoch(better | worse | {"eval_loss": 1.0 + epoch})
    assert found == rates


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("StepLR", {"step_size": 0}),
        ("CosineAnnealingLR", {"T_max": 0}),
        ("OneCycleLR", {"max_lr": 1, "total_steps": 2}),
    ],
)
def test_a_schedule_that_would_fail_in_a_later_epoch_is_refused_before_the_first(name, arguments):
    args = options_of(f"--sched {name} --warmup 0 --epochs 3 --sched-args '{json.dumps(arguments)}'")
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1, momentum=0.9)
    with pytest.raises(SystemExit, match=f"--sched {name} does not take --sched-args"):
        recipes.Schedule(args, optimizer, updates=1)


def test_a_plateau_of_the_training_loss_needs_no_evaluation(tmp_path):
    log = run(
        tmp_path, TINY, """--sched ReduceLROnPlateau --sched-args '{"watch": "train_loss"}' --epochs 3 --eval-every 3"""
    )
    assert ["eval_top1" in entry for entry in log["epochs"]] == [False, False, True]


def test_a_schedulers_wrong_arguments_are_named(tmp_path):
    with pytest.raises(SystemExit, match="--sched StepLR does not take --sched-args"):
        run(tmp_path, TINY, """--sched StepLR --sched-args '{"T_max": 3}'""")
    with pytest.raises(SystemExit, match="use train_loss"):
        run(tmp_path, TINY, """--sched ReduceLROnPlateau --sched-args '{"watch": "loss"}'""")


@pytest.mark.parametrize("option", ["--clip", "--clip-value"])
def test_clipping_bounds_the_step_by_norm_or_by_value(option, tmp_path, monkeypatch):
    """One step of plain gradient descent with learning rate 1 moves the weights by the clipped gradient."""
    models = []  # the first is trained; with a second, saving tries that it would come back
    create = recipes.timm.create_model
    monkeypatch.setattr(recipes.timm, "create_model", lambda *a, **k: models.append(create(*a, **k)) or models[-1])
    one = "--opt momentum --momentum 0 --weight-decay 0 --lr 1 --sched constant --epochs 1"
    before = {}
    step = recipes.Schedule.before_update
    monkeypatch.setattr(
        recipes.Schedule,
        "before_update",
        lambda self, n: before.update({k: v.clone() for k, v in models[0].named_parameters()}) or step(self, n),
    )
    run(tmp_path, TINY, one, f"{option} 0.001 --batch-size 128")
    moved = torch.cat([(after - before[name]).flatten() for name, after in models[0].named_parameters()]).detach()
    most = moved.norm() if option == "--clip" else moved.abs().max()
    assert most == pytest.approx(1e-3, rel=1e-2)


def test_the_script_stays_short_enough_to_be_read():
    assert len(Path(train.__file__).read_text().splitlines()) <= 250
