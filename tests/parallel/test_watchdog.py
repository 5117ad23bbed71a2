import subprocess
import sys
import time

import pytest
from joined import run_job

from retroguide_jax.parallel.watchdog import Watchdog

ALONE = """
import time
from retroguide_jax.parallel.watchdog import Watchdog

def stand_still():
    time.sleep(60)

with Watchdog(0.5) as watchdog:
    time.sleep(1)  # not watched yet
    for step in range(10):
        watchdog.beat(f"in step {step}")
        time.sleep(0.1)
    stand_still()
"""


@pytest.mark.smoke
def test_standing_still_ends_a_process_with_the_place():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=50)
    assert done.returncode == 142, done.stderr
    assert done.stderr.startswith("this process has come no further for 0.5 s: in step 9; where")
    assert "in stand_still" in done.stderr


def test_zero_and_the_end_watch_nothing():
    with Watchdog(0) as off, Watchdog(0.1) as on:
        off.beat("x")
        on.beat("x")
    time.sleep(0.3)


def test_a_hung_process_makes_all_print_their_stacks():
    body = """
    from retroguide_jax.parallel.watchdog import Watchdog

    def wait_for_data():
        time.sleep(90)

    def run_step():
        time.sleep(90)

    with Watchdog(1 if me == 1 else 1800) as watchdog:
        watchdog.beat("waiting for the batch of step 7")
        wait_for_data() if me == 1 else run_step()
    """
    other, stuck = run_job(2, body)
    assert (other[0], stuck[0]) == (142, 142), (other, stuck)
    assert "[1/2] process 1 (host " in stuck[2]
    assert "has come no further for 1 s: waiting for the batch of step 7" in stuck[2]
    assert "in wait_for_data" in stuck[2]
    assert "failed: no progress for 1 s: waiting for the batch of step 7: ending" in other[2]
    assert "in run_step" in other[2]
