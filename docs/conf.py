"""Sphinx configuration: `sphinx-build -W --keep-going -n -b html docs docs/_build/html`."""

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

import budgetnets

project = "budgetnets"
author = "The budgetnets developers"
copyright = f"2026, {author}"
version = release = budgetnets.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"budgetnets {release}"
myst_heading_anchors = 3

default_role = "code"  # single backticks in the docstrings are code
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # "Attributes:" of a dataclass become a list, not a second description of each
napoleon_custom_sections = ["Source"]

# Classes of other packages in signatures; without a network there is no inventory to link them to.
nitpick_ignore_regex = [("py:class", r"(torch|timm|nn|pathlib|collections)\..*|Path")]

PUBLIC = frozenset(budgetnets.__all__)
PUBLIC_IN_BACKTICKS = re.compile(rf"(?<![`:])`({'|'.join(sorted(PUBLIC))})`(?!`)")
SHARED = re.compile(r"^(\s+)((?:\w+, )+\w+): (.*)$")  # several names with one text


def prepare_docstring(app, what, name, obj, options, lines):
    """Link public names in backticks, and write entries of several names so that Sphinx reads them as such."""
    section, new = "", []
    for line in lines:
        heading = re.fullmatch(r"\s*(\w+):", line)
        section = heading[1] if heading else section
        line = re.sub(r"^Source: ", "**Source:** ", line)
        line = PUBLIC_IN_BACKTICKS.sub(r":py:obj:`~budgetnets.\1`", line)
        shared = SHARED.match(line) if section in ("Args", "Attributes", "Raises") else None
        if not shared:
            new.append(line)
            continue
        indent, names, text = shared.groups()
        if section == "Raises":
            new += [f"{indent}{error}: {text}" for error in names.split(", ")]
        else:  # Sphinx would take the first of "a, b" for a type
            new.append(f"{indent}{names.replace(', ', ',')}: {text}")
    lines[:] = new


def resolve_public(app, env, node, contnode):
    """Link a name that a signature gives by its private module, such as budgetnets.spec.ResNetSpec."""
    target = node.get("reftarget", "")
    name = target.rpartition(".")[2]
    if node.get("refdomain") != "py" or name not in PUBLIC or target == f"budgetnets.{name}":
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", f"budgetnets.{name}", node, contnode)


def check_api_is_complete(app):
    """Warn for public names that api.md leaves out."""
    text = (Path(app.srcdir) / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r":: budgetnets\.(\w+)$", text, re.MULTILINE))
    if documented != PUBLIC:
        logging.getLogger(__name__).warning("api.md and budgetnets.__all__ differ: %s", sorted(documented ^ PUBLIC))


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)  # before napoleon
    app.connect("missing-reference", resolve_public)
    app.connect("builder-inited", check_api_is_complete)
