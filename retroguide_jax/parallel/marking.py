"""`[3/16] ` before every line that one of several processes prints."""

import atexit
import sys
import threading
from typing import TextIO


class MarkedLines:
    """A text stream that marks lines and passes them on whole: processes may share a pipe.

    A line is passed on when it ends, the last one by `finish`. It is no terminal, even where it
    writes to one: bars that are drawn over and over would mix with the lines of other processes.
    What libraries print past Python (C++ logs) is not marked.

    Args:
      stream: receives the lines.
      mark: goes before each.
    """

    def __init__(self, stream: TextIO, mark: str):
        self._stream, self._mark = stream, mark
        self._begun = ""
        # Reentrant, because a signal handler that prints may come in the middle of a write.
        self._lock = threading.RLock()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Takes text; writes the lines that it ends."""
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
            if lines:
                self._stream.write("".join(f"{self._mark}{line}\n" for line in lines))
        return len(text)

    def writelines(self, lines) -> None:
        """Takes several texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Flushes the whole lines."""
        self._stream.flush()

    def isatty(self) -> bool:
        """False."""
        return False

    def finish(self) -> None:
        """Writes a line that was begun and not ended."""
        if self._begun:
            self.write("\n")


def mark_lines(mark: str) -> None:
    """Marks whatever Python prints to stdout and stderr from now on."""
    sys.stdout, sys.stderr = MarkedLines(sys.stdout, mark), MarkedLines(sys.stderr, mark)
    for stream in (sys.stdout, sys.stderr):
        atexit.register(stream.finish)
