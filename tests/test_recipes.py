"""Claims about the reports' recipes: each runs, as its report says, and a run of it can be stopped and resumed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.optim import SGD, Adagrad, Adam, RMSprop, lr_scheduler
from torchvision.transforms.v2 import functional as reference

import budgetnets
from budgetnets.variants import BUDGET, VARIANTS

for needed in ("accelerate", "matplotlib"):
    pytest.importorskip(needed, reason="pip install 'budgetnets[train]'")

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
import cifar  # noqa: E402
import fast_data  # noqa: E402
import recipes  # noqa: E402
import train  # noqa: E402

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
DEEPEST = ("R3-101", "R3-152")
TINY = """--model budget_resnet --model-args '{"N": 2, "B": 1, "C": [8, 16]}' --limit 128 --batch-size 64"""
TINY += " --ema 0 --warmup 0 --smoothing 0"


def options_of(*options):
    return train.parse_args([*shlex.split(" ".join(options)), "--out", "nowhere"])


def refusal(capsys, options):
    """What the command line's refusal says."""
    with pytest.raises(SystemExit) as exit_:
        options_of(options)
    assert exit_.value.code == 2
    return capsys.readouterr().err


def command(out, *options):
    return [*shlex.split(" ".join(options)), *f"--data fake --cpu --workers 0 --out {out}".split()]


def run(out, *options):
    """Train in this process; return the log."""
    train.main(command(out, *options))
    return read_log(out)


def read_log(out):
    return json.loads((out / "log.json").read_text())


def entries(log):
    """The log of the epochs, without the seconds."""
    return [{name: value for name, value in e.items() if name != "train_seconds"} for e in log["epochs"]]


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    monkeypatch.setattr(train, "plot", lambda log, path: path.touch())  # most of the time of a tiny epoch


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
    message = refusal(capsys, "--recipe R3-V2-sdg")
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--sched CosineAnealingLR", "did you mean 'CosineAnnealingLR'"),
        ("--sched StepLR", "--warmup 0.2 has no effect on StepLR"),
        ("--sched LambdaLR", "--sched LambdaLR is no scheduler"),
        ("--sched-args T_max=3", "--sched-args T_max=3 is no JSON object"),
        ("--opt-args [1]", "--opt-args [1] is no JSON object"),
        ("--recipe R0-sgd --eval-every 2", "use --eval-every 1"),
        ("--reload-best", "add --holdout"),
        ("--recipe R1 --choose-on holdout", "add --holdout"),
        ("--recipe R1 --holdout 5000", "add --choose-on holdout"),
        ("--recipe R1 --ema 0.9", "add --ema 0"),
        ("--choose-on test", "no effect"),
        ("--choose-on train", "use holdout or test"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_the_remedy(capsys, options, said):
    assert said in refusal(capsys, options)


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
    assert all(value.isfinite().all() for value in load_file(tmp_path / "run" / "model.safetensors").values())

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
    before, after = (load_file(f"runs/{name}/model.safetensors") for name in ("R3-V1-adam", "carried"))
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


@pytest.mark.parametrize(("watch", "rates"), [("eval_loss", [1, 1, 1]), ("train_top1", [1, 1, 0.5])])
def test_a_plateau_is_that_of_the_entry_that_is_watched(watch, rates):
    """The loss falls; the accuracy rises, which is a plateau where the least is the best."""
    args = options_of(
        f"""--sched ReduceLROnPlateau --warmup 0 --sched-args '{{"watch": "{watch}", "patience": 0, "factor": 0.5}}'"""
    )
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1)
    schedule, found = recipes.Schedule(args, optimizer, updates=1), []
    for epoch in range(3):
        found.append(optimizer.param_groups[0]["lr"])
        schedule.after_epoch({"eval_loss": 1 / (1 + epoch), "train_top1": 10.0 + 5 * (epoch > 0)})
    assert found == rates


def test_a_schedulers_wrong_arguments_are_named(tmp_path):
    with pytest.raises(SystemExit, match="--sched StepLR does not take --sched-args"):
        run(tmp_path, TINY, """--sched StepLR --sched-args '{"T_max": 3}'""")
    with pytest.raises(SystemExit, match="use train_loss"):
        run(tmp_path, TINY, """--sched ReduceLROnPlateau --sched-args '{"watch": "loss"}'""")


@pytest.mark.parametrize("option", ["--clip", "--clip-value"])
def test_clipping_bounds_the_step_by_norm_or_by_value(option, tmp_path, monkeypatch):
    """One step of plain gradient descent with learning rate 1 moves the weights by the clipped gradient."""
    models = []
    create = train.timm.create_model
    monkeypatch.setattr(train.timm, "create_model", lambda *a, **k: models.append(create(*a, **k)) or models[-1])
    one = "--opt momentum --momentum 0 --weight-decay 0 --lr 1 --sched constant --epochs 1"
    before = {}
    step = recipes.Schedule.before_update
    monkeypatch.setattr(
        recipes.Schedule,
        "before_update",
        lambda self, n: before.update({k: v.clone() for k, v in models[-1].named_parameters()}) or step(self, n),
    )
    run(tmp_path, TINY, one, f"{option} 0.001 --batch-size 128")
    moved = torch.cat([(after - before[name]).flatten() for name, after in models[-1].named_parameters()]).detach()
    most = moved.norm() if option == "--clip" else moved.abs().max()
    assert most == pytest.approx(1e-3, rel=1e-2)


# --- stopping and resuming


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(
    "options",
    [
        """--opt lookahead_momentum --decay-all --sched CosineAnnealingLR --sched-args '{"T_max": 4}'""",
        """--opt adam --lr 0.01 --sched ReduceLROnPlateau --sched-args '{"patience": 1}'""",
        """--opt rmsprop --lr 0.01 --sched StepLR --sched-args '{"step_size": 2}' --holdout 32""",
        "--reload-best --keep-best --choose-on test --sched constant --clip-value 0.1",
        "--augment-eval --rotate 15 --jitter 0.2 --flip random --sched cosine --ema 0.9",
        "--fast --augment-eval --translate 0.1 --pad constant --keep-best --choose-on test",
    ],
    ids=["cosine", "plateau", "step", "reload", "augmented", "fast"],
)
def test_a_run_that_was_stopped_resumes_to_the_same_numbers(options, tmp_path, monkeypatch):
    options = f"{TINY} {options} --epochs 6"
    whole = run(tmp_path / "whole", options)
    step = recipes.Schedule.before_update

    def stop(self, number):
        if number > (3 if "--holdout" in options else 7):  # in the fourth epoch
            raise StoppedError
        step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(recipes.Schedule, "before_update", stop)
        with pytest.raises(StoppedError):
            run(tmp_path / "parts", options)
    assert len(read_log(tmp_path / "parts")["epochs"]) == 3
    parts = run(tmp_path / "parts", options, "--resume")
    assert entries(parts) == entries(whole)
    assert all(parts.get(name) == whole.get(name) for name in ("kept_epoch", "test_top1", "test_loss"))
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_killed_process_resumes_to_the_same_numbers(tmp_path):
    """As above with a real kill; the plateau is the one schedule whose state is not the epoch alone."""
    options = f"""{TINY} --lr 0.1 --sched ReduceLROnPlateau --sched-args '{{"patience": 0}}' --epochs 8"""
    whole = run(tmp_path / "whole", options)
    start = [sys.executable, EXAMPLES / "train.py", *command(tmp_path / "parts", options)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # their number changes the order of sums
    process = subprocess.Popen(start, env=os.environ | threads, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (tmp_path / "parts" / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 1 <= len(read_log(tmp_path / "parts")["epochs"]) < 8
    assert entries(run(tmp_path / "parts", options, "--resume")) == entries(whole)
    assert len({entry["lr"] for entry in whole["epochs"]}) > 1


def test_a_run_is_not_resumed_under_another_recipe(tmp_path):
    run(tmp_path, "--recipe R3-V2-sgd", TINY, "--epochs 1")
    with pytest.raises(SystemExit, match=r"recipe, .*opt.* differ"):
        run(tmp_path, "--recipe R3-V2-adam", TINY, "--epochs 1 --resume")


# --- choosing by an evaluation


def test_each_epoch_starts_from_the_best_one_so_far(tmp_path, monkeypatch):
    """R1's way; what it went by is in the log, and so is the kept epoch."""
    starts, ends = [], []
    step, evaluate = recipes.Schedule.before_update, train.evaluate

    def weights(parameters):
        return torch.cat([p.detach().flatten().clone() for p in parameters])

    def note_start(self, number):
        if number % 2 == 1:  # of the two steps of an epoch
            starts.append(weights(p for g in self.scheduler.optimizer.param_groups for p in g["params"]))
        step(self, number)

    def note_end(model, *rest):
        groups = ([p for p in model.parameters() if (p.ndim > 1) is wide] for wide in (False, True))  # as timm's
        ends.append(weights(p for group in groups for p in group))
        return evaluate(model, *rest)

    monkeypatch.setattr(recipes.Schedule, "before_update", note_start)
    monkeypatch.setattr(train, "evaluate", note_end)
    chosen = "--reload-best --keep-best --choose-on test --epochs 8"
    log = run(tmp_path, TINY, chosen, "--sched constant")
    accuracies = [entry["eval_top1"] for entry in log["epochs"]]
    best = [accuracies.index(max(accuracies[: epoch + 1])) for epoch in range(8)]
    assert any(best[epoch] != epoch for epoch in range(7)), "every epoch was better; nothing was reloaded"
    for epoch in range(1, 8):
        assert torch.equal(starts[epoch], ends[best[epoch - 1]])
    assert (log["chosen_on"], log["evaluated_on"]) == ("test", "test")
    assert log["kept_epoch"] == best[-1] + 1
    assert log["test_top1"] == max(accuracies)


def test_a_log_says_that_nothing_was_chosen(tmp_path):
    log = run(tmp_path, TINY, "--epochs 1")
    assert log["chosen_on"] == "nothing"
    assert "kept_epoch" not in log


# --- the images


def loaders(module, *options):
    """What a data module gives for noise images, without Accelerate."""
    args = options_of(*options, "--data fake --limit 40 --batch-size 8 --workers 0")
    alone = SimpleNamespace(prepare=lambda *all_: all_, device=torch.device("cpu"), process_index=0, num_processes=1)
    return module.make_loaders(args, alone)


def all_images(loader):
    return torch.cat([images for images, _ in loader])


PATHS = pytest.mark.parametrize("module", [cifar, fast_data], ids=lambda module: module.__name__)


@PATHS
def test_the_images_are_normalized_as_asked_for(module):
    pixels = all_images(loaders(module, "--mean 0,0,0 --std 1,1,1")[3])
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    both = [budgetnets.CIFAR10_MEAN, (0.2023, 0.1994, 0.2010)]
    widespread = all_images(loaders(module, "--recipe R3-18")[3])
    torch.testing.assert_close(widespread, reference.normalize(pixels, *both))
    both[1] = budgetnets.CIFAR10_STD
    torch.testing.assert_close(all_images(loaders(module)[3]), reference.normalize(pixels, *both))


def test_a_normalization_that_is_none_is_refused():
    for wrong in ("0.2,0.2", "0.2,0.2,0", "a,b,c", "nan,1,1"):
        with pytest.raises(SystemExit, match=f"--std {wrong} must be three numbers"):
            loaders(cifar, f"--std {wrong}")


@PATHS
def test_a_crop_sees_black_beyond_the_border_where_asked_for(module):
    plain = "--flip none --mean 0,0,0 --std 1,1,1"
    sampler, train_loader, *_ = loaders(module, plain, "--pad constant --crop 4")
    originals = torch.stack([reference.to_image(image) / 255 for image, _ in cifar.open_images(ARGS_FAKE, train=True)])
    windows = torch.nn.functional.pad(originals, [4] * 4).unfold(2, 32, 1).unfold(3, 32, 1)
    windows = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 32, 32)
    sampler.epoch = 0
    seen = all_images(train_loader)
    assert len(seen) == 40
    for image in seen:
        assert (windows - image).abs().flatten(1).amax(1).min() < 1e-6


ARGS_FAKE = SimpleNamespace(data="fake", limit=40)


@PATHS
def test_augmented_test_images_are_drawn_anew_in_each_epoch_and_again_when_it_is_repeated(module):
    sampler, _, _, test = loaders(module, "--recipe R4")
    plain = all_images(loaders(module, "--recipe R3-18")[3])
    epochs = []
    for epoch in (0, 1, 0):
        sampler.epoch = epoch
        epochs.append(all_images(test))
    assert torch.equal(epochs[0], epochs[2])
    for images in (epochs[1], plain):
        assert (images != epochs[0]).flatten(1).any(1).all()
    assert [labels.tolist() for _, labels in test] == [labels.tolist() for _, labels in loaders(module)[3]]


def test_the_log_says_that_the_test_images_were_augmented(tmp_path):
    log = run(tmp_path, TINY, "--augment-eval --epochs 1")
    assert log["evaluated_on"] == "augmented test"


IMAGES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
STILL = (torch.zeros(6), torch.zeros(6, 2), torch.ones(6, 3), torch.arange(3).repeat(6, 1))


def distorted(distortion, **changes):
    numbers = dict(zip(("angle", "shift", "factors", "order"), STILL, strict=True)) | changes
    return distortion.apply(IMAGES / 255, **numbers)


def test_the_fast_paths_shift_is_torchvisions():
    shift = torch.tensor([[3.0, -2.0]]).repeat(6, 1)
    moved = distorted(fast_data.Distortion(translate=0.1), shift=shift)
    theirs = reference.affine(IMAGES, angle=0, translate=[3, -2], scale=1, shear=[0, 0])
    torch.testing.assert_close(moved, theirs / 255)


@pytest.mark.parametrize("angle", [-15.0, 4.0, 10.0])
def test_the_fast_paths_rotation_is_torchvisions_in_one_of_the_directions(angle):
    """A pixel in a hundred may lie between two, where rounding decides."""
    turned = distorted(fast_data.Distortion(rotate=15), angle=torch.full((6,), angle))
    either = [reference.rotate(IMAGES, direction * angle) / 255 for direction in (1, -1)]
    unequal = [(turned - theirs).abs().gt(1e-3).float().mean() for theirs in either]
    assert min(unequal) < 0.01 < max(unequal)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_fast_paths_jitter_is_torchvisions(order):
    factors = torch.tensor([[0.8, 1.2, 0.85], [1.1, 0.9, 1.2]] * 3)
    changed = distorted(fast_data.Distortion(jitter=0.2), factors=factors, order=torch.tensor(order).repeat(6, 1))
    adjust = reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation
    for image, theirs, numbers in zip(changed, IMAGES / 255, factors, strict=True):
        for k in order:
            theirs = adjust[k](theirs, numbers[k].item())
        torch.testing.assert_close(image, theirs, atol=1e-3, rtol=0)


def test_the_fast_paths_distortions_stay_within_their_bounds_and_reach_them():
    g = torch.Generator().manual_seed(0)
    angle, shift, factors, order = fast_data.Distortion(15, 0.1, 0.2).draw(10_000, g)
    assert 14.9 < angle.abs().max() <= 15
    assert sorted(shift.unique().tolist()) == [-3, -2, -1, 0, 1, 2, 3]
    assert 0.8 <= factors.min() < 0.801
    assert 1.199 < factors.max() <= 1.2
    assert len(order.unique(dim=0)) == 6


def test_the_script_stays_short_enough_to_be_read():
    assert len((EXAMPLES / "train.py").read_text().splitlines()) <= 250
