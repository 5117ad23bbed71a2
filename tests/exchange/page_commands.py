"""The commands of docs/weights.md, so that tests run each of them."""

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "weights.md"


def read_commands():
    """The arguments of each `retroguide` command of the page, in order."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]


def replace_config(arguments, path):
    """The arguments with a small config in place of the named one."""
    return [f"--config={path}" if "--config=" in text else text for text in arguments]
