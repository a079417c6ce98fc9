"""What the scripts' options may be, checked before anything is measured for a result that could not be written.

Each function makes a value of an option's word, or says what is wrong with it, as argparse's `type` does.
"""

import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from pathlib import Path

from budgetnets.checks import did_you_mean
from budgetnets.variants import VARIANTS, find_variant


def at_least(least: int) -> Callable[[str], int]:
    """Whole numbers from the least one on."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise ArgumentTypeError(f"{text!r} does not fit; use a whole number, {least} or more")
        return value

    return number


def one_of(known: Iterable[str]) -> Callable[[str], str]:
    """Names that are known."""
    names = list(known)

    def name(text: str) -> str:
        if text not in names:
            raise ArgumentTypeError(f"{text!r} is unknown{did_you_mean(text, names)} There are {', '.join(names)}")
        return text

    return name


def variant(text: str) -> str:
    """A variant without a weights' tag."""
    name = _with_known_tag(text)
    if name != text:
        raise ArgumentTypeError(f"{text!r} has a tag, but the network is measured and not its weights; use {name}")
    return text


def trained(text: str) -> str:
    """A variant that has weights, with or without a tag."""
    name = _with_known_tag(text)
    if not VARIANTS[name].weights:
        known = ", ".join(row.name for row in VARIANTS.values() if row.weights)
        raise ArgumentTypeError(f"{text!r} has no trained weights; use {known}")
    return text


def _with_known_tag(text: str) -> str:
    """Return the variant's name alone."""
    try:
        return find_variant(text).name
    except ValueError as error:  # argparse would say that the value is invalid, and not why
        raise ArgumentTypeError(str(error)) from None


def folder(text: str) -> Path:
    """A folder that can be written, or made."""
    path = Path(text)
    nearest = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        why = "may not be written" if nearest.is_dir() else "is no folder"
        raise ArgumentTypeError(f"nothing can be written into {path}, since {nearest} {why}; choose another folder")
    return path


def file(text: str) -> Path:
    """A file that can be written, its folder too."""
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f"{path} is a folder; give a file, such as {path / 'result'}")
    folder(str(path.absolute().parent))
    return path
