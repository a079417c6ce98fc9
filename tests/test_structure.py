"""The package's modules import one another in one direction, which is what keeps each readable by itself."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import budgetnets

SOURCES = {path.stem: ast.parse(path.read_text()) for path in Path(budgetnets.__file__).parent.glob("*.py")}
DIRECTION = ["checks", "spec", "budget", "blocks", "network", "variants", "counts", "registry"]


def imported(tree):
    """Return the package's modules that a module imports, inside its functions too, but not for its types alone."""
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = (
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level and node not in for_types
    )
    return {name for node in found for name in ([node.module] if node.module else [alias.name for alias in node.names])}


GRAPH = {name: imported(tree) & SOURCES.keys() for name, tree in SOURCES.items() if not name.startswith("__")}


def reached(name):
    """Return all that a module imports, over others too."""
    return GRAPH[name].union(*(reached(other) for other in GRAPH[name]))


def test_no_two_modules_import_each_other_even_inside_a_function():
    assert list(TopologicalSorter(GRAPH).static_order())  # a cycle raises


def test_no_module_imports_one_that_stands_behind_it():
    for place, name in enumerate(DIRECTION):
        assert not reached(name) & set(DIRECTION[place + 1 :]), name


def test_a_type_checker_sees_the_public_names_alone():
    """A module's __getattr__ tells it that every name is there, misspelt ones too."""
    seen = [node.name for node in SOURCES["__init__"].body if isinstance(node, ast.FunctionDef)]
    assert seen == ["__dir__"]
    assert not hasattr(budgetnets, "nope")
