import pytest
from joined import run_job

from retroguide_jax.parallel import service


def test_a_process_alone_is_not_joined():
    assert not service.is_joined()


@pytest.mark.smoke
def test_words_reach_all_and_the_end_is_clean():
    """A watcher that waits for a message that never comes must not delay the exit."""
    body = """
    heard = threading.Event()
    service.watch("word", lambda text: (print("heard", text), heard.set()))
    service.watch("never", print)
    print("first", service.put(f"own/{me}", "a"), "again", service.put(f"own/{me}", "b"))
    for _ in range(2):
        print("all", service.combine("numbers", str(10 + me), "+".join))
    print("sent", service.broadcast("place", "x" if me == 0 else ""))
    try:
        service.combine("never", "1", "+".join, seconds=2) if me == 0 else time.sleep(3)
    except TimeoutError as error:
        print("missing", error)
    if me == 1:
        service.put("word", "now")
    heard.wait()
    """
    for index, (status, out, err) in enumerate(run_job(2, body)):
        assert status == 0, err
        lines = ["first True again False", "all 10+11", "all 10+11", "sent x", "heard now"]
        lines += ["missing process 1"] if index == 0 else []
        assert sorted(out.splitlines()) == sorted(f"[{index}/2] {line}" for line in lines)
