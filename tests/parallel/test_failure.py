import time

import pytest
from joined import run_job

from retroguide_jax.errors import UserError
from retroguide_jax.parallel import failure

# To Python this is a wait in a collective: the other processes never come.
WAIT = "service._client().wait_at_barrier('never', 90_000)"


@pytest.mark.parametrize("failing", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_mistake_in_one_process_ends_all_at_once(failing):
    body = f"""
    if me == {failing}:
        raise UserError("no such photograph")
    {WAIT}
    """
    began = time.monotonic()
    results = run_job(3, body)
    assert time.monotonic() - began < 60
    for index, (status, _, err) in enumerate(results):
        assert status == 1, err
        lines = err.strip().splitlines()
        if index == failing:
            assert lines == [f"[{index}/3] error: no such photograph"]
        else:
            assert lines[0].startswith(f"[{index}/3] process {failing} (host ")
            assert lines[0].endswith(") failed: no such photograph: ending") and len(lines) == 1


@pytest.mark.slow
def test_a_fault_is_reported_with_its_traceback():
    body = f"""
    if me == 1:
        raise ZeroDivisionError("by nought")
    {WAIT}
    """
    other, failing = run_job(2, body)
    assert (other[0], failing[0]) == (1, 1)
    assert "failed: ZeroDivisionError: by nought: ending" in other[2]
    assert "[1/2] Traceback" in failing[2]
    assert "[1/2] ZeroDivisionError: by nought" in failing[2]


@pytest.mark.slow
def test_a_mistake_of_all_is_reported_by_each():
    for index, (status, _, err) in enumerate(run_job(2, "raise UserError('a wrong flag')")):
        assert (status, err) == (1, f"[{index}/2] error: a wrong flag\n")


@pytest.mark.slow
def test_a_process_that_cannot_close_its_files_ends_nevertheless():
    body = f"""
    failure._CLOSING_SECONDS = 3.0
    if me == 1:
        failure.report_failure(UserError("a full disk"), 1)
        {WAIT}
    {WAIT}
    """
    results = run_job(2, body)
    assert [status for status, _, _ in results] == [1, 1]
    assert all("failed: a full disk: ending" in err for _, _, err in results)


@pytest.mark.parametrize("name", ["broken", pytest.param("ready", marks=pytest.mark.slow)])
def test_the_writer_is_first_and_its_error_reaches_the_others(name):
    body = f"""
    with writer_first("block"):
        if me == 0:
            time.sleep(1)
            print("built", flush=True)
            if "{name}" == "broken":
                raise UserError("a full disk")
        print("used at", time.time())
    """
    results = run_job(2, body)
    if name == "ready":
        assert [status for status, _, _ in results] == [0, 0]
        moments = [float(out.split("used at ")[1]) for _, out, _ in results]
        assert moments[0] < moments[1]
    else:
        assert [status for status, _, _ in results] == [1, 1]
        assert results[0][2] == "[0/2] error: a full disk\n"
        assert results[1][2] == "[1/2] error: process 0: a full disk\n"


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_gone_ends_the_others_by_its_heartbeat(killed):
    """If process 0 dies, JAX notices at once that its connections are closed."""
    body = f"os.kill(os.getpid(), signal.SIGKILL) if me == {killed} else {WAIT}"
    began = time.monotonic()
    results = run_job(2, body, timeout=150)
    assert time.monotonic() - began < (30 if killed == 0 else 90)
    assert (results[killed][0], results[1 - killed][0]) == (-9, -6)
    assert "JAX distributed service detected fatal errors" in results[1 - killed][2]


def test_statuses():
    class JaxRuntimeError(RuntimeError):
        """The class is recognised by name, so that nothing has to import JAX."""

    assert failure.choose_status(UserError("x")) == 1
    assert failure.choose_status(KeyboardInterrupt()) == 130
    assert failure.choose_status(JaxRuntimeError("RESOURCE_EXHAUSTED: x")) == 1
    assert failure.choose_status(JaxRuntimeError("UNKNOWN: Connection closed by peer")) == 142
