import io
import threading

from retroguide_jax.parallel.marking import MarkedLines


def test_every_line_is_marked_once():
    stream = io.StringIO()
    marked = MarkedLines(stream, "[1/2] ")
    print("one", file=marked)
    print("two\n\nthree", file=marked, flush=True)
    marked.writelines(["fo", "ur\n"])
    assert stream.getvalue() == "[1/2] one\n[1/2] two\n[1/2] \n[1/2] three\n[1/2] four\n"


def test_a_line_that_does_not_end_comes_with_the_end():
    stream = io.StringIO()
    marked = MarkedLines(stream, "> ")
    print("half", end="", file=marked)
    assert stream.getvalue() == ""
    marked.finish()
    marked.finish()
    assert stream.getvalue() == "> half\n"


def test_lines_are_passed_on_whole():
    """Where processes share a pipe, half a line of one may be followed by part of another's."""
    pieces = []
    stream = io.StringIO()
    stream.write = pieces.append
    marked = MarkedLines(stream, "> ")
    threads = [
        threading.Thread(target=lambda: [print("a line", file=marked) for _ in range(50)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(piece.startswith("> ") and piece.endswith("\n") for piece in pieces)


def test_it_stands_for_the_stream_but_is_no_terminal():
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    marked = MarkedLines(Terminal(), "> ")
    assert marked.encoding == "utf-8" and not marked.isatty()
