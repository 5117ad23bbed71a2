"""The floors of the package are those that CONTRIBUTING.md lists, and imports go down only."""

import ast
import re
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "retroguide_jax"


def read_floors():
    """{room: floor} of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    lines = re.findall(r"^(\d+)\. (`\w+`(?:, `\w+`)*)$", text, re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(range(1, len(lines) + 1))
    rooms = [(room, int(number)) for number, names in lines for room in re.findall(r"\w+", names)]
    assert len(dict(rooms)) == len(rooms), "a room stands on two floors"
    return dict(rooms)


def list_modules():
    """(name, text) of every module; configs and datasets are installed inside the package."""
    for folder in (PACKAGE, "configs", "datasets"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts if folder == PACKAGE else (PACKAGE, *parts)), path.read_text()


def name_room(module):
    """ "data" of "retroguide_jax.data.images", "__init__" of the package itself."""
    return (module.split(".") + ["__init__"])[1]


def list_imports(name, text):
    """The rooms that a module imports from, at its top or anywhere in it."""
    parent = name.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), parent)
            names = [f"{module}.{alias.name}" for alias in node.names]
        for imported in names:
            if imported.split(".")[0] == PACKAGE and imported != f"{PACKAGE}.__version__":
                yield name_room(imported)


def find_arrows_up(floors, modules):
    return [
        f"{name} (floor {floors[room]}) imports {other} (floor {floors[other]})"
        for name, text in modules
        for room in [name_room(name)]
        for other in list_imports(name, text)
        if other != room and floors[other] >= floors[room]
    ]


@pytest.mark.smoke
def test_every_room_has_a_floor_and_imports_go_down():
    modules, floors = dict(list_modules()), read_floors()
    assert {name_room(name) for name in modules} == floors.keys()
    assert find_arrows_up(floors, modules.items()) == []


def test_who_searches_or_plans_evaluates_nothing():
    for name, text in list_modules():
        if name_room(name) in ("retrieval", "plan"):
            assert "evaluation" not in set(list_imports(name, text)), name


@pytest.mark.parametrize(
    "text",
    [
        "from retroguide_jax.training.loop import train",
        "def f():\n  from retroguide_jax import training",
        "import retroguide_jax.training.losses as losses",
        "from ..report import page",
        "import retroguide_jax",
    ],
)
def test_an_arrow_up_is_found(text):
    modules = [
        (f"{PACKAGE}.training.x", "from retroguide_jax.data import images"),
        (f"{PACKAGE}.evaluation.y", text),
    ]
    (found,) = find_arrows_up(read_floors(), modules)
    assert found.startswith(f"{PACKAGE}.evaluation.y (floor")
