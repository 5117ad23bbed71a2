"""Text for people: columns, short lists, errors on one line, the nearest name."""

import difflib
from collections.abc import Iterable, Sequence

_FEW = 10  # items of a list that an error shows


def align(lines: Sequence[Sequence[str]]) -> str:
    """Aligns cells in columns, the first to the left and the others to the right, and rules off
    the heading.
    """
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)


def join_few(names: Sequence[str], what: str = "images") -> str:
    """The number of names and the first ten of them, on one line: "12 images: a, b, ..."."""
    shown = [name if name.isprintable() else repr(name) for name in names[:_FEW]]
    more = ["..."] if len(names) > _FEW else []
    return f"{len(names)} {what}: {', '.join(shown + more)}"


def one_line(error: BaseException) -> str:
    """An error's first line, at most 200 characters, or its type if it has no message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def make_printable(text: str) -> str:
    """A copy of a text with bytes that are not UTF-8 (in file names) escaped, as in "\\xbd"."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def find_nearest(name: str, known: Iterable[str]) -> str:
    """The known name nearest to a mistyped one, or "" if none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")
