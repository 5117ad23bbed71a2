"""Progress and remaining time of long operations: a bar on a terminal, lines in a log.

The environment variable RETROGUIDE_QUIET, which `--quiet` sets, silences both, in the processes
that a command starts too.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext

from tqdm import tqdm

QUIET = "RETROGUIDE_QUIET"
_SECONDS_PER_LINE = 30.0
_SECONDS_PER_TICK = 1.0


def is_quiet() -> bool:
    """Whether progress output is off."""
    return os.environ.get(QUIET, "") not in ("", "0")


def make_bar(items: Iterable | None = None, *, shown: bool = True, **options) -> tqdm:
    """A tqdm bar on stderr that is erased at the end; without a terminal, one line per 30 s.

    Args:
      items: items to iterate over, or None for a bar that is updated by hand.
      shown: False on processes that must not show progress because another one does.
      **options: options of tqdm.
    """
    if is_quiet() or not shown:
        return tqdm(items, disable=True, **options)
    options = {"file": sys.stderr, "leave": False, "dynamic_ncols": True, **options}
    if sys.stderr.isatty():
        return tqdm(items, **options)
    often = {"delay": _SECONDS_PER_LINE, "mininterval": _SECONDS_PER_LINE, "ncols": 0}
    return _Lines(items, **options | often)


def print_line(text: str) -> None:
    """Prints a line on stderr, above the bars and clocks that a terminal shows."""
    cleared = tqdm.external_write_mode(sys.stderr) if sys.stderr.isatty() else nullcontext()
    with cleared:
        print(text, file=sys.stderr, flush=True)


def follow(bar: tqdm) -> Callable[[int, int], None]:
    """A function of (number done, total number) that updates the bar."""

    def show(num_done: int, num_total: int) -> None:
        bar.total = num_total
        bar.update(num_done - bar.n)

    return show


@contextlib.contextmanager
def show_stage(what: str, *, shown: bool = True) -> Iterator[None]:
    """Shows the current operation with a running clock; in a log, one line per 30 s.

    For operations of unknown length. The clock runs in a thread, so that it also runs during calls
    that block the main thread, such as compilation. On a terminal it is on the second line: the
    first is that of a bar that this operation may draw or interrupt.

    Args:
      what: the operation, such as "compiling the training step".
      shown: False on processes that must not show progress because another one does.
    """
    has_ended = threading.Event()
    options = {"desc": what, "bar_format": "{desc} [{elapsed}]", "position": 1}
    with make_bar(shown=shown, **options) as bar:
        seconds = _SECONDS_PER_TICK if sys.stderr.isatty() else _SECONDS_PER_LINE

        def tick() -> None:
            while not has_ended.wait(seconds):
                bar.refresh()

        clock = threading.Thread(target=tick, name="clock", daemon=True)
        clock.start()
        try:
            yield
        finally:
            has_ended.set()
            clock.join()
            bar.clear()  # unlike `close`, it also returns to the first column


class _Lines(tqdm):
    """A bar that prints complete lines instead of redrawing one, for logs."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        del pos
        if msg != "":  # tqdm clears a bar with ""
            print(msg or str(self), file=self.fp, flush=True)
        return True

    def clear(self, nolock: bool = False) -> None:
        del nolock

    def close(self) -> None:
        self.disable = True
        super().close()
