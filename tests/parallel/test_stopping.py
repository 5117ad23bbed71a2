import os
import signal

import pytest
from joined import run_job

from retroguide_jax.parallel.stopping import Stopper

LOOP = """
from retroguide_jax.parallel.stopping import Stopper

with Stopper() as stopper:
    for step in range(1, 10_000):
        if step == signal_at.get(me):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(pace[me])
        if (caught := stopper.check()):
            print(f"{caught.name} at {step}")
            return 128 + caught
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_alone_stops_at_the_next_check(number):
    before = signal.getsignal(number)
    with Stopper() as stopper:
        assert stopper.check() is None
        os.kill(os.getpid(), number)
        assert stopper.check() == number
        assert signal.getsignal(number) == before  # so that a second signal ends at once
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    "signal_at", [{2: 20}, pytest.param({0: 30, 1: 31}, marks=pytest.mark.slow)]
)
def test_one_signal_stops_all_at_the_same_step(signal_at):
    """Nothing else keeps these processes in step; the one that gets the signal is slow or fast."""
    results = run_job(3, f"signal_at = {signal_at}\npace = (0.002, 0.02, 0.007)\n{LOOP}")
    assert [status for status, _, _ in results] == [143] * 3, results
    said = [out.split("] ")[1] for _, out, _ in results]
    assert len(set(said)) == 1 and said[0].startswith("SIGTERM at "), said


@pytest.mark.slow
def test_a_process_that_has_passed_its_last_check_does_not_keep_others():
    body = """
    from retroguide_jax.parallel.stopping import Stopper

    with Stopper() as stopper:
        for step in range(1, 4):
            if me == 1 and step == 3:  # the other has left the loop and waits at its end
                time.sleep(1)
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)
            assert stopper.check() is None
    """
    assert [status for status, _, _ in run_job(2, body)] == [0, 0]
