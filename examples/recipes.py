"""What train.py is told: options, recipes (recipes.toml and ablations.toml), and what they make: network to schedule.

A recipe is a table of train.py's own options, so this needs to know few of them; option_checks.py checks them.
"""

import json
import platform
import re
import subprocess
import sys
import tomllib
from inspect import signature
from pathlib import Path

import option_checks
import run_folder
import timm
import torch
import trained
from option_checks import OF_TIMM
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch.optim import lr_scheduler

import budgetnets
from budgetnets.checks import did_you_mean, first_line

REPORTS, BEYOND = (Path(__file__).with_name(name) for name in ("recipes.toml", "ablations.toml"))
NO_OPTION = {"report", "like"}  # what a recipe leaves open or is to show, and which one it departs from
FUSED = {"nesterov", "momentum", "sgd", "adam", "adamw"}
# May differ when a run is resumed.
NOT_THE_RECIPE = {"out", "data", "resume", "workers", "cpu", "compile", "compile_mode"}


def load():
    """Return every recipe by name: the reports' runs, and then those beyond, each `like` one of the reports'."""
    tables = tomllib.loads(REPORTS.read_text())
    common = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    known = {name: common | own for name, own in tables.items() if isinstance(own, dict)}
    return known | {name: known[own["like"]] | own for name, own in tomllib.loads(BEYOND.read_text()).items()}


def parse(parser, argv):
    """Return the options: a recipe's where the command line has none, checked. `--recipe list` shows all instead."""
    name, known = parser.parse_args(argv).recipe, load()
    if name == "list":
        print(table(known))
        sys.exit()
    if name and name not in known:
        near = did_you_mean(name, known)
        parser.error(f"--recipe {name} is unknown{near} --recipe list shows the {len(known)} that there are")
    if name:
        parser.set_defaults(**values(name, known[name], vars(parser.parse_args([]))))
    args = parser.parse_args(argv)
    if not args.out:
        parser.error("the following arguments are required: --out")
    option_checks.check(parser, args)
    return args


def values(name, recipe, defaults):
    """Return a recipe under the parser's names and in the types of its defaults; tables become JSON."""
    options = {}
    for key, value in recipe.items():
        option = key.replace("-", "_")
        if key in NO_OPTION:
            continue
        if option not in defaults:
            sys.exit(f"the recipe {name} has {key!r}, which is no option of train.py{did_you_mean(option, defaults)}")
        wanted = type(defaults[option])
        value = json.dumps(value) if isinstance(value, dict) else value
        value = float(value) if wanted is float and type(value) is int else value
        if type(value) is not wanted:
            sys.exit(f"the recipe {name} has {key} = {value!r}; it must be of type {wanted.__name__}")
        options[option] = value
    return options


def table(known):
    """Return the recipes as text, a line each: the reports', and then those beyond them with what they are to show."""
    rows = [("name", "model", "optimizer", "schedule", "epochs")]
    for name, recipe in known.items():
        if "like" in recipe:
            continue
        how = ", ".join(f"{key} {value}" for key, value in recipe.get("sched-args", {}).items())
        schedule = f"{recipe['sched']} ({how})" if how else recipe["sched"]
        rows.append((name, recipe["model"], f"{recipe['opt']} {recipe['lr']}", schedule, str(recipe["epochs"])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["The reports' runs:", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)]
    beyond = {name: recipe for name, recipe in known.items() if "like" in recipe}
    width = max(map(len, beyond))
    shown = (f"{name:{width}}  like {recipe['like']}: {recipe['report']}" for name, recipe in beyond.items())
    return "\n".join([*lines, "", "Runs beyond them:", *shown])


def as_words(args, defaults, left_out=()):
    """Return a log's options that are not train.py's defaults, as words of the command line.

    The recipe's name is left out: its values are all there, and it would take the place of a default given beside it.
    """
    words = []
    for name, value in args.items():
        if name in left_out or name == "recipe" or value == defaults.get(name, value):
            continue
        flag = name.replace("_", "-")
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


def make_model(args, device, **also):
    """Return the network of the options, for the ten classes of CIFAR-10's colour images."""
    if ":" not in args.model and not timm.is_model(args.model.partition(".")[0]):
        near = did_you_mean(args.model, [*budgetnets.list_models(), "budget_resnet"])
        sys.exit(f"--model {args.model} is unknown{near} budgetnets.list_models() has the variants")
    try:
        model = timm.create_model(args.model, **json.loads(args.model_args), **also, device=device)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        reason = str(error) or type(error).__name__  # timm's own reader of a checkpoint says nothing
        sys.exit(f"--model {args.model} --model-args {args.model_args}: {reason}")
    if not hasattr(model, "num_classes"):  # features_only
        sys.exit(f"--model-args {args.model_args} gives a {type(model).__name__}, which has no classifier to train")
    if (model.num_classes, model.in_chans) != (10, 3):
        found = f"{model.num_classes} classes and {model.in_chans} channels"
        sys.exit(f"--model-args {args.model_args} gives {found}; CIFAR-10 has 10 classes and 3 channels")
    return model


def make_optimizer(args, model, device):
    """Return timm's optimizer; on a GPU in one kernel, where torch has it so."""
    how = {"fused": True} if device.type == "cuda" and args.opt in FUSED else {}
    given = json.loads(args.opt_args)
    how |= {"filter_bias_and_bn": not args.decay_all} | given
    try:
        optimizer = create_optimizer_v2(model, args.opt, args.lr, args.weight_decay, args.momentum, **how)
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:  # some need CUDA or a package
        sys.exit(f"--opt {args.opt} --opt-args {args.opt_args}: {first_line(error)}")
    dropped = given.keys() - optimizer.defaults.keys() - signature(create_optimizer_v2).parameters.keys()
    if dropped:  # by timm, without a word
        sys.exit(f"--opt-args {args.opt_args}: {args.opt} takes no {', '.join(sorted(dropped))}; leave it out")
    return optimizer


def refuse_unused(parser, args, defaults, used):
    """Refuse options of train.py that a script takes over but does not use, where they are no longer the default."""
    unused = [name for name, value in defaults.items() if name not in used and getattr(args, name) != value]
    if unused:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        parser.error(f"{named}: of no effect here; leave it out, or train with train.py")


def rehearse(kind, options, optimizer, epochs):
    """Step one of torch's schedulers through the run's epochs, beside the run: some arguments fail only then."""
    groups = [{"params": [torch.zeros(1)], "lr": group["lr"]} for group in optimizer.param_groups]
    beside = torch.optim.SGD(groups, momentum=0.9)
    scheduler = kind(beside, **options)
    for _ in range(epochs):
        beside.step()  # before the scheduler's, or torch warns
        scheduler.step(*([0.0] if kind is lr_scheduler.ReduceLROnPlateau else []))


class Schedule:
    """The learning rate of a run: timm's schedulers set it before every update, torch's after every epoch.

    `--sched-args` are the scheduler's own. ReduceLROnPlateau also takes "watch", the entry of the log it goes by: a
    loss should fall, an accuracy rise, where its "mode" does not say otherwise.
    """

    def __init__(self, args, optimizer, updates):
        options = json.loads(args.sched_args)
        self.by_update = args.sched in OF_TIMM
        self.watch = options.pop("watch", "eval_loss") if args.sched == "ReduceLROnPlateau" else None
        if self.watch not in (None, "train_loss", "train_top1", "eval_loss", "eval_top1"):
            sys.exit(f'--sched-args: "watch" is {self.watch!r}; use train_loss, train_top1, eval_loss or eval_top1')
        if self.watch:
            options = {"mode": "max" if self.watch.endswith("top1") else "min"} | options
        try:
            if self.by_update:
                warmup = args.warmup * args.epochs
                ours = {"step_on_epochs": False, "updates_per_epoch": updates}
                # The decay starts at the peak, and takes what the warmup leaves of the run.
                ours |= {"warmup_epochs": warmup, "warmup_lr": 0.0, "warmup_prefix": True}
                ours |= {"decay_rate": 1.0} if args.sched == "poly" else {}  # its power: a line
                decay = args.epochs - warmup
                self.scheduler, _ = create_scheduler_v2(optimizer, args.sched, decay, **ours | options)
            else:
                kind = getattr(lr_scheduler, args.sched)
                self.scheduler = kind(optimizer, **options)
                rehearse(kind, options, optimizer, args.epochs)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            sys.exit(f"--sched {args.sched} does not take --sched-args {args.sched_args}: {error}")
        self.state_dict, self.load_state_dict = self.scheduler.state_dict, self.scheduler.load_state_dict

    def before_update(self, step):
        if self.by_update:
            self.scheduler.step_update(step)

    def after_epoch(self, entry):
        """Take the epoch's entry in the log."""
        if not self.by_update:
            self.scheduler.step(*([entry[self.watch]] if self.watch else []))


def data_of(args):
    """Return the images that a run sees, as its log has them."""
    return "fake" if args.data == "fake" else "CIFAR-10"


def describe_run(args, accelerator, model):
    """What a reader of the log needs to judge its figures; the network is as it starts."""
    failed, commit = subprocess.getstatusoutput(f"git -C '{Path(__file__).parent}' describe --always --dirty")
    cpu = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else []
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else (names or [platform.processor()])[0]
    return {
        "model": args.model,
        "params": sum(p.numel() for p in model.parameters()),
        "start_sha256": run_folder.sha256_of(model.state_dict()) if trained.loads_weights(args) else None,
        "args": {name: value for name, value in vars(args).items() if name not in NOT_THE_RECIPE},
        "data": data_of(args),
        "hardware": f"{accelerator.num_processes} x {device}, {torch.get_num_threads()} threads each",
        "versions": {"torch": str(torch.__version__), "timm": timm.__version__, "budgetnets": budgetnets.__version__},
        "commit": None if failed else commit,
        "compiled": args.compile_mode if args.compile else False,
        "evaluated_on": ("augmented " if args.augment_eval else "") + ("holdout" if args.holdout else "test"),
        "chosen_on": args.choose_on if args.early_stop or args.keep_best or args.reload_best else "nothing",
        "epochs": [],
    }
