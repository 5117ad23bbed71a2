import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.parallel import processes


def test_one_process_is_left_alone(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    processes.join_processes()
    assert processes.is_writer()
    rows = np.array(["a", "bc"])
    assert processes.gather_rows(rows) is rows
    with processes.writer_first("block"):
        pass


@pytest.mark.parametrize(("number", "process"), [("", "0"), ("2", ""), ("two", "0"), ("2", "-1")])
def test_half_a_description_of_the_job_is_an_error(monkeypatch, number, process):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", number)
    monkeypatch.setenv("JAX_PROCESS_ID", process)
    with pytest.raises(UserError, match="set JAX_NUM_PROCESSES and JAX_PROCESS_ID"):
        processes.join_processes()


def test_a_process_that_is_not_of_the_job_is_an_error(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "2")
    with pytest.raises(UserError, match="cannot join"):
        processes.join_processes()
