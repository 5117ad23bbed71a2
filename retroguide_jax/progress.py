"""How far long work is and how long it still takes: a bar on a terminal, lines in a log.

The environment variable RETROGUIDE_QUIET, which `--quiet` sets, silences both, in the processes
that a command starts too.
"""

import os
import sys
from collections.abc import Callable, Iterable

from tqdm import tqdm

QUIET = "RETROGUIDE_QUIET"
_SECONDS_A_LINE = 30.0


def is_quiet() -> bool:
    """Whether progress is not to be told."""
    return os.environ.get(QUIET, "") not in ("", "0")


def make_bar(items: Iterable | None = None, *, shown: bool = True, **options) -> tqdm:
    """A tqdm bar on stderr that leaves nothing behind; without a terminal, a line now and then.

    Args:
      items: to be iterated over, or None for a bar that is updated by hand.
      shown: False for what only one of several processes tells.
      **options: of tqdm.
    """
    if is_quiet() or not shown:
        return tqdm(items, disable=True, **options)
    options = {"file": sys.stderr, "leave": False, "dynamic_ncols": True, **options}
    if sys.stderr.isatty():
        return tqdm(items, **options)
    often = {"delay": _SECONDS_A_LINE, "mininterval": _SECONDS_A_LINE, "ncols": 0}
    return _Lines(items, **options | often)


def follow(bar: tqdm) -> Callable[[int, int], None]:
    """A function of (how much is done, how much there is) that the bar then shows."""

    def show(num_done: int, num_total: int) -> None:
        bar.total = num_total
        bar.update(num_done - bar.n)

    return show


class _Lines(tqdm):
    """Whole lines in place of one that is drawn over: logs keep what is written."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        del pos
        if msg != "":  # what tqdm clears a bar by
            print(msg or str(self), file=self.fp, flush=True)
        return True

    def close(self) -> None:
        self.disable = True
        super().close()
