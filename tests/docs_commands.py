"""The commands in the pages: README, docs/ and the READMEs of folders."""

import re
from pathlib import Path

from retroguide_jax.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "launch" / "README.md"]
    + [*(ROOT / "docs").glob("*.md"), *(ROOT / "datasets").glob("*/README.md")]
)
_BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_KNOWN = re.compile(rf"(?:^|\s)(retroguide (?:{'|'.join(COMMANDS)})\b.*)")


def list_commands(kinds=("", "bash")):
    """(page, command line) of every `retroguide ...` in a code block.

    Blocks of kind `text` hold commands that take too long for tests.
    """
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = [block for kind, block in _BLOCK.findall(text) if kind in kinds]
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        lines += [line.strip() for line in text.splitlines() if line.startswith(" " * 4)]
        found += _keep_known(page, [re.sub(r"  #.*| &$", "", line) for line in lines])
    return found


def list_mentions():
    """(page, words) of every `retroguide ...` within running text; it may be part of a command."""
    found = []
    for page in PAGES:
        text = " ".join(_BLOCK.sub("", page.read_text()).split())
        found += _keep_known(page, re.findall(r"`(retroguide [^`]*)`", text))
    return found


def read_configs(page):
    """{name: text} of the config files that a page shows; the first line of each is its name."""
    blocks = re.findall(r"```python\n(# (\w+\.py).*?)```", page.read_text(), re.DOTALL)
    return {name: text for text, name in blocks}


def _keep_known(page, lines):
    place = page.relative_to(ROOT).as_posix()
    matches = [_KNOWN.search(" ".join(line.split())) for line in lines]
    return list(dict.fromkeys((place, match[1]) for match in matches if match))
