"""What train.py is told: options, resolved and checked, recipes (recipes.toml and ablations.toml), schedules.

A recipe is a table of train.py's own options, so this needs to know none of them but those it checks.
"""

import json
import math
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch.optim import lr_scheduler

import budgetnets
from budgetnets.checks import did_you_mean

REPORTS, BEYOND = (Path(__file__).with_name(name) for name in ("recipes.toml", "ablations.toml"))
NO_OPTION = {"report", "like"}  # what a recipe leaves open or is to show, and which one it departs from
OF_TIMM = ("poly", "cosine", "tanh", "step", "multistep", "wsd", "rsqrt", "constant")
NEED_PYTHON = {"LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"}  # no JSON gives them
OF_TORCH = tuple(
    name
    for name, kind in vars(lr_scheduler).items()
    if isinstance(kind, type) and issubclass(kind, lr_scheduler.LRScheduler) and name[0] != "_"
    if name not in NEED_PYTHON
)
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
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
    check_choice(parser, args)
    check_schedule(parser, args)
    check_sharpness(parser, args)
    check_mixing(parser, args)
    check_compiling(parser, args)
    check_teaching(parser, args)
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
    """Return a log's options that are not train.py's defaults, as words of the command line."""
    words = []
    for name, value in args.items():
        if name in left_out or value == defaults.get(name, value):
            continue
        flag = name.replace("_", "-")
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


def check_choice(parser, args):
    """Refuse what would choose by the test set without saying so."""
    chooses = args.early_stop or args.keep_best or args.reload_best
    if args.choose_on not in ("holdout", "test"):
        parser.error(f"--choose-on {args.choose_on} is unknown; use holdout or test")
    if chooses and args.choose_on == "holdout" and not args.holdout:
        which = "--early-stop, --keep-best and --reload-best"
        parser.error(f"{which} choose by the hold-out, never by the test set; add --holdout 5000")
    if args.choose_on == "test" and args.holdout:
        parser.error(f"--choose-on test, but --holdout {args.holdout} is what is evaluated; add --choose-on holdout")
    if args.test not in ("end", "every", "never"):
        parser.error(f"--test {args.test} is unknown; use end, every or never")
    if args.test != "end" and not args.holdout:
        parser.error(f"--test {args.test} without a hold-out, when the test set is evaluated alone; add --holdout 5000")
    if args.choose_on == "test" and not chooses:
        parser.error("--choose-on test has no effect without --keep-best, --reload-best or --early-stop; leave it out")
    if args.reload_best and args.ema:
        parser.error(f"--reload-best with --ema {args.ema} would train the averaged weights; add --ema 0")


def check_schedule(parser, args):
    """Refuse a schedule that is unknown or does not fit the other options."""
    for name in ("model", "opt", "sched"):
        text = getattr(args, f"{name}_args")
        try:
            fits = isinstance(json.loads(text), dict)
        except ValueError:
            fits = False
        if not fits:
            parser.error(f"--{name}-args {text} is no JSON object; write it as '{{\"name\": 1}}'")
    if args.sched not in OF_TIMM + OF_TORCH:
        near = did_you_mean(args.sched, OF_TIMM + OF_TORCH)
        parser.error(f"--sched {args.sched} is no scheduler of timm or torch{near} timm's are {', '.join(OF_TIMM)}")
    needed = {"step": "decay_epochs", "multistep": "decay_milestones"}.get(args.sched)
    if needed and needed not in json.loads(args.sched_args):
        parser.error(f"--sched {args.sched} takes no step; add --sched-args '{{\"{needed}\": ...}}', in epochs")
    if not 0 <= args.warmup < 1:
        parser.error(f"--warmup {args.warmup} is a share of the run; use 0 or more, and less than 1")
    if args.sched in OF_TORCH and args.warmup:
        parser.error(f"--warmup {args.warmup} has no effect on {args.sched}, which is torch's; add --warmup 0")
    if args.sched == "ReduceLROnPlateau" and args.eval_every != 1:
        watched = str(json.loads(args.sched_args).get("watch", "eval_loss"))
        if watched.startswith("eval"):
            parser.error(
                f"--eval-every {args.eval_every}, but ReduceLROnPlateau looks at every epoch's {watched}; use "
                """--eval-every 1, or --sched-args '{"watch": "train_loss"}'"""
            )


def check_sharpness(parser, args):
    """Refuse radii of SAM and ASAM that are none, or both at once."""
    for name in ("sam", "asam"):
        if not 0 <= getattr(args, name) < math.inf:
            parser.error(f"--{name} {getattr(args, name)} is a radius, at least 0; try --sam 0.05 or --asam 1")
    if args.sam and args.asam:
        parser.error(f"--sam {args.sam} and --asam {args.asam} are two forms of one method; leave one out")


def check_mixing(parser, args):
    """Refuse shares that are none, and batches that timm cannot mix."""
    for name in ("cutout", "mix_prob", "mix_until"):
        if not 0 <= getattr(args, name) <= 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)} is a share; use 0 to 1")
    mixes = args.mixup or args.cutmix
    for name in ("mix_prob", "mix_until"):
        if not mixes and getattr(args, name) != 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)} has no effect without --mixup or --cutmix")
    if mixes and args.batch_size % 2:
        parser.error(f"--batch-size {args.batch_size} is odd, and images are mixed in pairs; use an even one")


def check_compiling(parser, args):
    """Refuse a mode that torch.compile has not, or that would be without effect."""
    if args.compile_mode not in COMPILE_MODES:
        parser.error(f"--compile-mode {args.compile_mode} is unknown; use one of {', '.join(COMPILE_MODES)}")
    if args.compile_mode != "default" and not args.compile:
        parser.error(f"--compile-mode {args.compile_mode} has no effect without --compile; add it")


def check_teaching(parser, args):
    """Refuse a share or a temperature that is none, or that would be without effect."""
    if not 0 < args.distill <= 1:
        parser.error(f"--distill {args.distill} is the teacher's share; use more than 0, at most 1")
    if not 0 < args.temperature < math.inf:
        parser.error(f"--temperature {args.temperature} divides the logits; use more than 0, such as 2")
    for name in ("distill", "temperature"):
        if not args.teacher and getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name} {getattr(args, name)} has no effect without --teacher; add it")


def make_optimizer(args, model, device):
    """Return timm's optimizer; on a GPU in one kernel, where torch has it so."""
    how = {"fused": True} if device.type == "cuda" and args.opt in FUSED else {}
    how |= {"filter_bias_and_bn": not args.decay_all} | json.loads(args.opt_args)
    return create_optimizer_v2(model, args.opt, args.lr, args.weight_decay, args.momentum, **how)


def refuse_unused(parser, args, defaults, used):
    """Refuse options of train.py that a script takes over but does not use, where they are no longer the default."""
    unused = [name for name, value in defaults.items() if name not in used and getattr(args, name) != value]
    if unused:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        parser.error(f"{named}: of no effect here; leave it out, or train with train.py")


class Schedule:
    """The learning rate of a run: timm's schedulers set it before every update, torch's after every epoch.

    `--sched-args` are the scheduler's own. ReduceLROnPlateau also takes "watch", the entry of the log it goes by.
    """

    def __init__(self, args, optimizer, updates):
        options = json.loads(args.sched_args)
        self.by_update = args.sched in OF_TIMM
        self.watch = options.pop("watch", "eval_loss") if args.sched == "ReduceLROnPlateau" else None
        if self.watch not in (None, "train_loss", "train_top1", "eval_loss", "eval_top1"):
            sys.exit(f'--sched-args: "watch" is {self.watch!r}; use train_loss, train_top1, eval_loss or eval_top1')
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
                self.scheduler = getattr(lr_scheduler, args.sched)(optimizer, **options)
        except (TypeError, ValueError) as error:
            sys.exit(f"--sched {args.sched} does not take --sched-args {args.sched_args}: {error}")
        self.state_dict, self.load_state_dict = self.scheduler.state_dict, self.scheduler.load_state_dict

    def before_update(self, step):
        if self.by_update:
            self.scheduler.step_update(step)

    def after_epoch(self, entry):
        """Take the epoch's entry in the log."""
        if not self.by_update:
            self.scheduler.step(*([entry[self.watch]] if self.watch else []))


def describe_run(args, accelerator, model):
    """What a reader of the log needs to judge its figures."""
    failed, commit = subprocess.getstatusoutput(f"git -C '{Path(__file__).parent}' describe --always --dirty")
    cpu = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else []
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else (names or [platform.processor()])[0]
    return {
        "model": args.model,
        "params": sum(p.numel() for p in model.parameters()),
        "args": {name: value for name, value in vars(args).items() if name not in NOT_THE_RECIPE},
        "hardware": f"{accelerator.num_processes} x {device}, {torch.get_num_threads()} threads each",
        "versions": {"torch": str(torch.__version__), "timm": timm.__version__, "budgetnets": budgetnets.__version__},
        "commit": None if failed else commit,
        "compiled": args.compile_mode if args.compile else False,
        "evaluated_on": ("augmented " if args.augment_eval else "") + ("holdout" if args.holdout else "test"),
        "chosen_on": args.choose_on if args.early_stop or args.keep_best or args.reload_best else "nothing",
        "epochs": [],
    }
