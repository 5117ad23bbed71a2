"""The program takes every command that a page prints, knows every flag that it names, and every
link leads somewhere. What the commands do is tested in tests/system/test_docs_run.py."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from docs_commands import PAGES, ROOT, list_commands, list_mentions, read_configs

from retroguide_jax import __main__ as cli
from retroguide_jax.commands import COMMANDS


def parse(line):
    """Parses a command line with the program's own parser; loads the config, runs nothing."""
    name, *arguments = shlex.split(line)[1:]
    return cli._parse(name, importlib.import_module(f"retroguide_jax.commands.{name}"), arguments)


def list_anchors(page):
    """The link anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_command_is_on_some_page():
    assert {line.split()[1] for _, line in list_commands()} == COMMANDS.keys()


@pytest.mark.parametrize(("page", "line"), list_commands(("", "bash", "text")))
def test_the_program_takes_the_command(page, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in read_configs(ROOT / page).items():
        Path(name).write_text(text)
    assert vars(parse(line))


@pytest.mark.parametrize(("page", "line"), list_mentions())
def test_the_program_has_the_flags_that_are_mentioned(page, line, capsys):
    command, *words = shlex.split(line)[1:]
    sub_command = words[:1] if words and re.fullmatch("[a-z]+", words[0]) else []
    with pytest.raises(SystemExit):
        cli.main([command, *sub_command, "--help"])
    known = capsys.readouterr().out
    for word in words:
        if word.startswith("--") and not word.startswith("--config."):
            assert re.search(rf"{word.partition('=')[0]}\b", known), (page, word)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        assert path.exists(), link
        assert not anchor or anchor in list_anchors(path), link
