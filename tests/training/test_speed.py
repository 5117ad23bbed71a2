"""Speed, remaining time and the warning of waiting for data, from intervals of steps."""

import os

import pytest
from tiny import make_tiny_config

from retroguide_jax.training.speed import Pace, Speed
from retroguide_jax.training.timing import Interval


class Timer:
    """A timer that returns the intervals that a test lists."""

    def __init__(self, *intervals):
        self.intervals = [Interval(*interval) for interval in intervals]

    def collect(self):
        return self.intervals.pop(0)


def make_speed(*intervals, **fields):
    fields = {"train.num_steps": 100, "train.contrastive_warmup_steps": 20} | fields
    return Speed(make_tiny_config(**fields), Timer(*intervals))


def test_the_time_left_is_that_of_the_warm_up_and_then_of_the_run():
    speed = make_speed((9, 9, 0), (10, 10, 0), (10, 50, 0), (10, 50, 0))
    assert speed.describe_rest(0) == ""
    rests = []
    for step in (10, 20, 30, 40):
        speed.measure(step, 10)
        rests.append(speed.describe_rest(step))
    assert rests[0] == "00:10 until the generator starts"
    assert rests[1] == ""  # no step of the generator has been timed
    assert rests[2:] == ["05:50 left", "05:00 left"]


def test_images_are_the_generators_where_it_is_updated():
    speed = make_speed((9, 9, 0), (10, 10, 0), (10, 20, 2))
    speeds = [speed.measure(step, 10) for step in (10, 20, 30)]
    assert [row["images_per_second"] for row in speeds] == [16, 16, 4]
    assert (speeds[2]["seconds/step"], speeds[2]["seconds/waiting_for_data"]) == (2, 0.2)


def test_the_first_step_alone_has_no_speed():
    speed = make_speed((0, 0, 0))
    assert speed.measure(1, 1) == {} and speed.find_starvation() == ""


def find_starvation(speed):
    found = []
    for step in (30, 60, 90):
        speed.measure(step, 30)
        found.append(speed.find_starvation())
    return found


def test_starving_devices_are_warned_of_once_with_the_remedy(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    fields = {"data.name": "cvusa", "data.num_threads": 8}
    speed = make_speed((30, 60, 30), (30, 60, 30), (30, 60, 30), **fields)
    assert find_starvation(speed) == [
        "",
        "50% of the time is spent waiting for data: set config.data.num_threads, now 8, up to 64 "
        "cores, or store images at the model's size: --config.data.store_resized=true",
        "",
    ]


def test_devices_that_hardly_wait_are_not_warned_of():
    assert not any(find_starvation(make_speed(*[(30, 60, 11)] * 3)))


def test_the_pace_forgets_slow_beginnings():
    pace = Pace()
    assert pace.estimate(10) is None
    pace.add(Interval(0, 0, 0))
    assert pace.estimate(10) is None
    pace.add(Interval(10, 100, 0))
    assert pace.estimate(10) == 100
    for _ in range(20):
        pace.add(Interval(10, 10, 0))
    assert pace.estimate(100) == pytest.approx(100, rel=0.05)
