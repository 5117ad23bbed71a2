import jax
import numpy as np
import pytest

from retroguide_jax.config import load_config
from retroguide_jax.errors import UserError
from retroguide_jax.schedule import Schedule

PARTS = ("embedder", "generator", "discriminator", "penalty")


def make_schedule(spec="city", **fields):
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    return Schedule(load_config(spec, overrides))


def test_mode_contrastive_updates_the_embedder_at_every_step():
    schedule = make_schedule(mode="contrastive")
    assert schedule.config.train.contrastive_every == 25
    assert schedule.networks == ("embedder",)
    assert schedule.count("embedder") == 1650
    assert [schedule.count(part) for part in PARTS[1:]] == [0, 0, 0]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mode": "frozen"},
        {"mode": "contrastive"},
        {"train.contrastive_warmup_steps": 7, "train.contrastive_every": 5},
        {"train.contrastive_every": 0},
        {"train.contrastive_warmup_steps": 2000},
    ],
    ids=str,
)
def test_counts_are_those_of_the_steps_that_are_due(fields):
    schedule = make_schedule(**fields)
    steps = np.arange(schedule.config.train.num_steps)
    for part in PARTS:
        due = np.array(jax.jit(lambda steps: schedule.is_due(part, steps))(steps))  # noqa: B023
        assert [bool(schedule.is_due(part, step)) for step in (0, 251)] == due[[0, 251]].tolist()
        assert schedule.count(part) == due.sum()
        before = jax.jit(lambda steps: schedule.count(part, steps))(steps)  # noqa: B023
        np.testing.assert_array_equal(before, np.cumsum(due) - due)


@pytest.mark.parametrize("field", ["train.contrastive_every=-1", "losses.penalty_every=0"])
def test_a_period_that_cannot_be_is_named(field):
    with pytest.raises(UserError, match=f"config.{field}: give"):
        make_schedule(**dict([field.split("=")]))
