"""What train.py's options may be: each check says the value, the rule and the remedy before anything is loaded."""

import json
import math
import re
import sys

from timm.optim import get_optimizer_info
from torch.optim import lr_scheduler

from budgetnets.checks import did_you_mean

OF_TIMM = ("poly", "cosine", "tanh", "step", "multistep", "wsd", "rsqrt", "constant")
NEED_PYTHON = {"LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"}  # no JSON gives them
OF_TORCH = tuple(
    name
    for name, kind in vars(lr_scheduler).items()
    if isinstance(kind, type) and issubclass(kind, lr_scheduler.LRScheduler) and name[0] != "_"
    if name not in NEED_PYTHON
)
PRECISIONS = ("no", "bf16")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
AT_LEAST_ONE = ("epochs", "batch_size", "eval_every")
AT_LEAST_ZERO = (
    *("seed", "workers", "limit", "holdout", "early_stop", "momentum", "weight_decay", "clip", "clip_value"),
    *("crop", "rotate", "jitter", "mixup", "cutmix"),
)
MOST_SEED = 40_000  # each of its epochs has a seed of its own, which NumPy wants below 2^32
SHARES = ("cutout", "mix_prob", "mix_until", "smoothing", "translate")
SIDE = 32  # of CIFAR-10's images
MOST_CROP = 31  # pixels; an image's mirrored border is one less than its side


def check(parser, args):
    """Exit with a usage error at the first option that is out of range, or does not fit the others."""
    check_ranges(parser, args)
    check_json(parser, args)
    check_optimizer(parser, args)
    check_choice(parser, args)
    check_schedule(parser, args)
    check_sharpness(parser, args)
    check_mixing(parser, args)
    check_compiling(parser, args)
    check_teaching(parser, args)


def check_ranges(parser, args):
    """Refuse numbers out of range, which would fail late, or train something else without a word."""
    for name in AT_LEAST_ONE + AT_LEAST_ZERO:
        value, least = getattr(args, name), int(name in AT_LEAST_ONE)
        if not least <= value < math.inf:
            parser.error(f"--{name.replace('_', '-')} {value} is out of range; use {least} or more")
    for name in SHARES:
        if not 0 <= getattr(args, name) <= 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)} is a share; use 0 to 1")
    if args.seed > MOST_SEED:
        parser.error(f"--seed {args.seed} is out of range; use at most {MOST_SEED:,}")
    if not 0 <= args.lr < math.inf:
        parser.error(f"--lr {args.lr} is out of range; use 0 or more, such as {parser.get_default('lr')}")
    if args.crop > MOST_CROP:
        parser.error(f"--crop {args.crop} is out of range; use at most {MOST_CROP}, of 32 pixels")
    if args.momentum >= 1:
        parser.error(f"--momentum {args.momentum} is out of range; use less than 1, such as 0.9")
    if not 0 <= args.ema < 1:
        parser.error(f"--ema {args.ema} is a decay; use 0 (none) or more, and less than 1, such as 0.998")
    if not all(re.fullmatch("[1-9][0-9]*x[1-9][0-9]*", part) for part in filter(None, args.sizes.split(","))):
        parser.error(f"--sizes {args.sizes} is no list of <pixels>x<epochs>; write it as 16x6,24x19")
    steps = [tuple(map(int, part.split("x"))) for part in filter(None, args.sizes.split(","))]
    if any(size > SIDE for size, _ in steps):
        parser.error(f"--sizes {args.sizes} enlarges images of {SIDE} pixels; use smaller ones, such as 16x6,24x19")
    if sum(epochs for _, epochs in steps) >= args.epochs:
        told = f"note: --sizes {args.sizes} leaves none of --epochs {args.epochs} at {SIDE} pixels, which is evaluated"
        print(told, file=sys.stderr)


def check_json(parser, args):
    """Refuse arguments for timm and torch that are no JSON object."""
    for name in ("model", "opt", "sched"):
        text = getattr(args, f"{name}_args")
        try:
            fits = isinstance(json.loads(text), dict)
        except ValueError:
            fits = False
        if not fits:
            parser.error(f"--{name}-args {text} is no JSON object; write it as '{{\"name\": 1}}'")


def check_optimizer(parser, args):
    """Refuse a momentum that the optimizer has not, and one that needs more than a gradient.

    Optimizers that timm does not know are refused as they are made.
    """
    try:
        info = get_optimizer_info(args.opt.lower().removeprefix("lookahead_"))
    except ValueError:
        return
    takes_momentum = info.has_momentum
    if info.second_order:
        parser.error(f"--opt {args.opt} needs second derivatives, which this loop does not compute; use another")
    if not takes_momentum and args.momentum != parser.get_default("momentum"):
        parser.error(f"--momentum {args.momentum} has no effect on {args.opt}; leave it out, or see --opt-args")


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
    start = json.loads(args.model_args)
    if args.holdout and start.get("checkpoint_path"):
        told = f"note: the hold-out is kept from this run; {start['checkpoint_path']} must not have been trained on it"
        print(told, file=sys.stderr)
    if args.holdout and start.get("pretrained"):
        parser.error(
            f"--holdout {args.holdout} with --model-args {args.model_args}: the trained weights have seen the images "
            'that it keeps apart; leave out --holdout or "pretrained"'
        )
    if args.reload_best and args.ema:
        parser.error(f"--reload-best with --ema {args.ema} would train the averaged weights; add --ema 0")


def check_schedule(parser, args):
    """Refuse a schedule that is unknown or does not fit the other options."""
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
    """Refuse shares without effect, and batches that timm cannot mix."""
    mixes = args.mixup or args.cutmix
    for name in ("mix_prob", "mix_until"):
        if not mixes and getattr(args, name) != 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)} has no effect without --mixup or --cutmix")
    if mixes and args.batch_size % 2:
        parser.error(f"--batch-size {args.batch_size} is odd, and images are mixed in pairs; use an even one")


def check_compiling(parser, args):
    """Refuse a precision that is none, and a mode that torch.compile has not, or that would be without effect."""
    if args.precision not in PRECISIONS:
        parser.error(f"--precision {args.precision} is unknown; use {' or '.join(PRECISIONS)}")
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
