"""Pages, help texts and messages keep to the words that CONTRIBUTING names under "Habits"."""

import ast
import re

import pytest
from docs_commands import PAGES, ROOT

from retroguide_jax import __main__ as cli
from retroguide_jax.commands import COMMANDS

# What is wrong, and what to write instead.
_COUNTED = (
    r"(?:\d+(?:[.,]\d+)*|one|pairs|images|rows|lines?|steps|views|noises|files?|metrics?|process|gathers"
    r"|generated|hop|[kMGT]i?B|[munk]?s|T?FLOPs?)"
)
_UNIT = (
    r"(?:device|chip|core|GPU|host|process|source|place|image|panorama|pair|file|step|update|epoch"
    r"|block|layer|evaluation|query|second|minute|line|side|byte|hop|compilation|command|upload)"
)
WRONG = {
    rf"{_COUNTED} an? {_UNIT}": "per, or for each",
    r"told|tells?|telling": "report, log, print, say; distinguish",
    r"anew": "again",
    r"(?:go|goes|going|gone|went) on": "resume, continue",
    r"in vain": "say what failed",
    r"figures?": "score, number; a plot is a plot",
}
SUB_COMMANDS = [
    *(["retrieve", name] for name in ("index", "query")),
    *(["data", name] for name in ("check", "build", "show")),
    *(["weights", name] for name in ("list", "fetch", "convert", "import", "export")),
]
TEXTS = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "NOTES.md",
    *(path for path in (ROOT / "launch").iterdir() if path.suffix in (".sh", ".sbatch")),
]


def find_wrong(text):
    """What to mend: the words found, in their surroundings, and what to write instead."""
    text = " ".join(text.split())
    return [
        f"...{text[max(0, found.start() - 30) : found.end() + 30]}...: {better}"
        for pattern, better in WRONG.items()
        for found in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "8 pairs a device",
        "GiB\na device",
        "one line an image",
        "Progress is told",
        "drawn anew",
        "a run that goes on",
        "begun in vain",
        "Figures of the demo",
    ],
)
def test_the_patterns_find_what_they_are_for(text):
    assert len(find_wrong(text)) == 1


@pytest.mark.parametrize("text", ["8 pairs per device", "it takes a step", "the process of a run"])
def test_the_patterns_leave_plain_articles_alone(text):
    assert not find_wrong(text)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_plain(page):
    """All but code and what programs once printed."""
    prose = re.sub(r"```.*?```|`[^`]*`", "`code`", page.read_text(), flags=re.DOTALL)
    wrong = find_wrong(prose)
    assert not wrong, "\n".join(wrong)


HELP = [[], *([name] for name in COMMANDS), *SUB_COMMANDS]


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_texts_are_plain(words, capsys):
    with pytest.raises(SystemExit):
        cli.main([*words, "--help"])
    wrong = find_wrong(capsys.readouterr().out)
    assert not wrong, "\n".join(wrong)


ROOMS = ("retroguide_jax", "configs", "datasets", "benchmarks")
CODE = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def list_messages(code):
    """Texts that are printed or raised, with what is formatted into them as {}."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in ("print", "print_line", "write", "warn") or name.endswith("Error"):
            for argument in node.args:
                yield from list_texts(argument)


def list_texts(node):
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        yield "".join(map(str, parts))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def test_messages_are_found():
    code = """
print(f"{count} images a second")
raise UserError("make it " "anew")
note = "told"
"""
    assert list(list_messages(code)) == ["{} images a second", "make it anew"]


@pytest.mark.parametrize("room", ROOMS)
def test_messages_are_plain(room):
    wrong = [
        f"{path.relative_to(ROOT)}: {found}"
        for path in CODE
        if path.is_relative_to(ROOT / room)
        for text in list_messages(path.read_text())
        for found in find_wrong(text)
    ]
    assert not wrong, "\n".join(wrong)
