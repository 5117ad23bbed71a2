"""The command line: `retroguide COMMAND`, the same as `python -m retroguide_jax COMMAND`.

Exit status: 0 success; 1 an error that the user can fix, printed in one line; 2 wrong usage;
130 interrupted; of `retroguide train` also 142 stuck and 143 terminated. RETROGUIDE_DEBUG=1 shows
tracebacks.
"""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from retroguide_jax import __version__
from retroguide_jax.commands import COMMANDS
from retroguide_jax.errors import StorageError, UserError
from retroguide_jax.parallel import failure, service
from retroguide_jax.progress import QUIET
from retroguide_jax.text import find_nearest

_CONFIG_HELP = """\
config:
  Fields of the config are set with --config.FIELD=VALUE or --config.FIELD VALUE, for example
  --config.data.aerial_size="(64, 64)". A value must have its field's type. Packaged configs:
  {names}.
"""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks and adds defaults, but only informative ones."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # `is False`, because 0 is an informative default although it equals False.
        is_plain = action.default is None or action.default is False or action.default == []
        is_hidden = action.default is argparse.SUPPRESS or "default" in (action.help or "")
        if not action.help or is_plain or is_hidden:
            return action.help
        return f"{action.help} (default: %(default)s)"


class _Parser(argparse.ArgumentParser):
    """Settings of all parsers; argparse makes sub-parsers with their parent's class."""

    def __init__(self, **kwargs):
        kwargs.setdefault("formatter_class", _HelpFormatter)
        # An abbreviated flag breaks silently once a second flag with the same prefix is added.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(**kwargs)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: arguments without the program's name; by default those of the process.

    Returns:
      The exit status. Wrong usage and `--help` raise SystemExit, as in argparse.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] not in COMMANDS:
        _leave_without_command(argv)
    if not os.environ.get("JAX_COORDINATOR_ADDRESS"):
        # XLA logs a long compilation as an error, with a request to file a bug. Real errors are
        # raised as well; XLA's own log lines add information only in multi-process jobs.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    name, arguments = argv[0], argv[1:]
    command = importlib.import_module(f"retroguide_jax.commands.{name}")
    args = argparse.Namespace()
    try:
        args = _parse(name, command, arguments)
        status = command.run(args)
        # Flush here, so that a closed pipe (`| head`) raises inside this `try`.
        sys.stdout.flush()
        return status
    except (Exception, KeyboardInterrupt) as error:
        is_expected = isinstance(error, (UserError, OSError, KeyboardInterrupt))
        has_line = is_expected and os.environ.get("RETROGUIDE_DEBUG") != "1"
        if service.is_joined():
            _end_job(error, args, has_line)
        if has_line:
            return _report(error, args)
        raise


def _leave_without_command(argv: Sequence[str]) -> NoReturn:
    """Prints the list of commands, the version, or an error about the command's name, and exits."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    parser = _Parser(
        prog="retroguide",
        usage="retroguide COMMAND [flags]",
        description=f"Retrieval-guided cross-view image synthesis.\n\ncommands:\n{lines}",
        epilog="`retroguide COMMAND --help` prints what a command does, its flags and an example.",
    )
    parser.add_argument("--version", action="version", version=f"retroguide {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parsed, _ = parser.parse_known_args(argv)
    if parsed.command is None:
        parser.error(f"name a command: {', '.join(COMMANDS)}")
    nearest = find_nearest(parsed.command, COMMANDS)
    hint = f"did you mean {nearest}?" if nearest else f"there are {', '.join(COMMANDS)}"
    parser.error(f"no command {parsed.command!r}; {hint}")


def _parse(name: str, command: ModuleType, arguments: list[str]) -> argparse.Namespace:
    """Reads the flags of one command and loads its config, if it has one."""
    uses_config = getattr(command, "USES_CONFIG", False)
    takes_overrides = uses_config or getattr(command, "TAKES_OVERRIDES", False)
    example = f"example:\n{_indent(command.EXAMPLE)}"
    overrides: list[str] = []
    epilog = example
    if takes_overrides:
        from retroguide_jax import config as config_lib

        overrides, arguments = config_lib.split_overrides(arguments)
        names = ", ".join(config_lib.list_packaged_configs())
        epilog = f"{_CONFIG_HELP.format(names=names)}\n{example}"
    parser = _Parser(prog=f"retroguide {name}", description=command.__doc__, epilog=epilog)
    if uses_config:
        parser.add_argument(
            "--config",
            required=True,
            metavar="NAME[:ARG]|FILE.py[:ARG]",
            help="a packaged config by name, or a Python file with get_config()",
        )
    command.add_flags(parser)
    parser.add_argument(
        "--quiet", action="store_true", help="print results, warnings and errors only, no progress"
    )
    if "--quiet" in arguments:  # allowed after a sub-command too, whose parser does not know it
        os.environ[QUIET] = "1"
        arguments = [text for text in arguments if text != "--quiet"]
    args = parser.parse_args(arguments)
    if uses_config:
        args.config = config_lib.load_config(args.config, overrides)
    elif takes_overrides:
        args.overrides = overrides
    return args


def _indent(text: str) -> str:
    return "\n".join(f"  {line.strip()}" for line in text.strip().splitlines())


def _report(error: BaseException, args: argparse.Namespace) -> int:
    """Prints a UserError, OSError or KeyboardInterrupt in one line; returns the exit status."""
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    if isinstance(error, BrokenPipeError):
        # The interpreter flushes stdout again at exit; let it write to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    message = str(error)
    if isinstance(error, OSError):
        cause = error.strerror or str(error) or type(error).__name__
        # A failed write() does not know its file's name, so name the paths that may be meant.
        flags = [f"--{name} {value}" for name, value in _get_locations(args)]
        where = error.filename or " or ".join(flags)
        message = f"{cause}: {where}" if where else cause
    print(f"error: {message}", file=sys.stderr)
    return failure.choose_status(error)


def _end_job(error: BaseException, args: argparse.Namespace, has_line: bool) -> NoReturn:
    """Ends this process of a job, and with it the others, which would otherwise wait for it."""
    status = failure.choose_status(error)
    # Notify the others first, because printing may block on a slow reader.
    failure.report_failure(error, status)
    if has_line:
        status = _report(error, args)
    else:
        traceback.print_exc()
    if status == failure.STUCK_STATUS and not isinstance(error, StorageError):
        lost = "another process or a device of the job is lost, it seems: start it again"
        print(f"error: {lost} (status {status})", file=sys.stderr)
    failure.leave(status)


def _get_locations(args: argparse.Namespace) -> list[tuple[str, str]]:
    names = ("workdir", "output", "data_dir")
    found = [(name, getattr(args, name, None)) for name in names]
    return [(name, str(value)) for name, value in found if value]


if __name__ == "__main__":
    sys.exit(main())
