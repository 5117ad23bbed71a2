"""Output prefix of each process of a job, such as `[3/16] `."""

import atexit
import sys
import threading
from typing import TextIO


class MarkedLines:
    """A text stream that prefixes lines and writes only complete ones: processes may share a pipe.

    A line is written when it ends, the last one by `finish`. The stream never claims to be a
    terminal: redrawn progress bars would mix with the lines of other processes. Output that
    bypasses Python (C++ logs) is not prefixed.

    Args:
      stream: receives the lines.
      mark: prefix of each line.
    """

    def __init__(self, stream: TextIO, mark: str):
        self._stream, self._mark = stream, mark
        self._begun = ""
        # Reentrant, because a signal handler that prints may interrupt a write.
        self._lock = threading.RLock()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Buffers text and writes the lines that it completes."""
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
            if lines:
                self._stream.write("".join(f"{self._mark}{line}\n" for line in lines))
        return len(text)

    def writelines(self, lines) -> None:
        """Writes several texts, one after the other."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Flushes the underlying stream; an incomplete line stays buffered."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Always False."""
        return False

    def finish(self) -> None:
        """Writes an incomplete last line."""
        if self._begun:
            self.write("\n")


def mark_lines(mark: str) -> None:
    """Prefixes everything that Python prints to stdout and stderr from now on."""
    sys.stdout, sys.stderr = MarkedLines(sys.stdout, mark), MarkedLines(sys.stderr, mark)
    for stream in (sys.stdout, sys.stderr):
        atexit.register(stream.finish)
