"""Step times on a fake clock: what counts as a step, as waiting, or as neither."""

import concurrent.futures

import pytest

from retroguide_jax.training import timing
from retroguide_jax.training.timing import Interval, StepTimer


class AtOnce(concurrent.futures.Executor):
    """Runs each task at once, in the caller's thread."""

    def submit(self, fn, *args):
        future = concurrent.futures.Future()
        future.set_result(fn(*args))
        return future


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


class Metrics:
    """Metrics of a step that ends at the given time."""

    def __init__(self, clock, end):
        self.clock, self.end = clock, end

    def block_until_ready(self):
        self.clock.now = max(self.clock.now, self.end)


@pytest.fixture
def run(monkeypatch):
    """Returns run(steps, pauses) -> the interval of steps (batch arrives, step ends); the loop
    pauses for so many seconds after the steps named."""
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)

    def run(steps, pauses=None):
        timer = StepTimer(AtOnce())
        for number, (arrives, ends) in enumerate(steps):
            with timer.waiting():
                clock.now = max(clock.now, arrives)
            timer.follow(Metrics(clock, ends))
            if number in (pauses or {}):
                clock.now += pauses[number]
                timer.resume()
        return timer.collect()

    return run


def test_the_first_step_which_compiles_is_not_counted(run):
    assert run([(100, 160)]) == Interval(0, 0, 0)
    assert run([(200, 260), (260, 262), (262, 264)]) == Interval(2, 4, 0)


def test_waiting_is_what_passes_until_the_batch_comes_once_the_devices_are_idle(run):
    assert run([(100, 110), (115, 117), (118, 120)]) == Interval(2, 10, 5 + 1)


@pytest.mark.parametrize(("arrives", "ends", "waiting"), [(105, 112, 0), (111, 113, 1)])
def test_a_batch_that_comes_while_the_devices_work_is_not_waited_for(
    monkeypatch, arrives, ends, waiting
):
    clock, tasks = Clock(), []

    class Later(concurrent.futures.Executor):
        def submit(self, fn, *args):
            tasks.append((fn, args))
            return concurrent.futures.Future()

    monkeypatch.setattr(timing, "time", clock)
    timer = StepTimer(Later())
    for arrival, end in ((100, 110), (arrives, ends)):
        with timer.waiting():
            clock.now = arrival
        timer.follow(Metrics(clock, end))
    clock.now = 100
    for fn, args in tasks:
        fn(*args)
    assert timer.collect() == Interval(1, ends - 110, waiting)


def test_pauses_for_pictures_and_checkpoints_are_not_counted(run):
    assert run([(100, 110), (110, 112), (142, 144)], pauses={1: 30}) == Interval(2, 4, 0)


def test_the_loop_is_never_far_ahead():
    metrics = [concurrent.futures.Future() for _ in range(4)]

    class Waits:
        def __init__(self, future):
            self.block_until_ready = future.result

    with concurrent.futures.ThreadPoolExecutor(1) as thread, \
            concurrent.futures.ThreadPoolExecutor(1) as loop:  # fmt: skip
        timer = StepTimer(thread)
        for future in metrics[:2]:
            timer.follow(Waits(future))
        third = loop.submit(timer.follow, Waits(metrics[2]))
        with pytest.raises(concurrent.futures.TimeoutError):
            third.result(0.1)
        metrics[0].set_result(None)
        third.result(10)
        for future in metrics[1:]:
            future.set_result(None)
        timer.finish()


def test_a_step_that_fails_is_reported_to_the_loop():
    class Fails:
        def block_until_ready(self):
            raise RuntimeError("out of memory")

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        timer = StepTimer(thread)
        timer.follow(Fails())
        with pytest.raises(RuntimeError, match="out of memory"):
            timer.finish()
