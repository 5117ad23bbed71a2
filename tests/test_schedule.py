import jax
import numpy as np
import pytest

from retroguide_jax.config import load_config
from retroguide_jax.errors import UserError
from retroguide_jax.schedule import Schedule

PARTS = ("embedder", "generator", "structure", "discriminator", "penalty")


def make_schedule(spec="city", **fields):
    fields = {"train.num_steps": 1650, "train.structure_steps": 0} | fields
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    return Schedule(load_config(spec, overrides))


def test_mode_contrastive_updates_the_embedder_at_every_step():
    schedule = make_schedule(mode="contrastive")
    assert schedule.config.train.contrastive_every == 25
    assert schedule.networks == ("embedder",)
    assert schedule.count("embedder") == 1650
    assert [schedule.count(part) for part in PARTS[1:]] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mode": "frozen"},
        {"mode": "contrastive"},
        {"train.contrastive_warmup_steps": 7, "train.contrastive_every": 5},
        {"train.contrastive_every": 0},
        {"train.contrastive_warmup_steps": 2000},
        {"train.structure_steps": 300},
        {"train.structure_steps": 300, "mode": "frozen"},
        {"train.structure_steps": 300, "mode": "contrastive"},
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


@pytest.mark.parametrize(
    ("fields", "drawn"),
    [
        ({"mode": "contrastive"}, range(1650)),
        # 64 / 4 parts; the embedder needs a new batch every 25 steps after 250.
        ({}, [*range(251), *(step for step in range(251, 1650) if step % 25 in (0, 16))]),
        (
            {"train.contrastive_warmup_steps": 7},
            [*range(8), 16, *(step for step in range(25, 1650) if step % 25 in (0, 16))],
        ),
        ({"mode": "frozen"}, range(0, 1650, 16)),
        ({"train.contrastive_every": 1}, range(1650)),
        ({"train.contrastive_every": 0}, [*range(251), *range(256, 1650, 16)]),
        ({"train.adversarial_batch_size": 64, "train.contrastive_every": 0}, range(1650)),
    ],
    ids=str,
)
def test_a_batch_serves_until_its_parts_are_used_or_the_embedder_needs_a_new_one(fields, drawn):
    schedule = make_schedule(**{"train.adversarial_batch_size": 4} | fields)
    needed = np.array([schedule.needs_batch(step) for step in range(1650)])
    assert np.flatnonzero(needed).tolist() == list(drawn)
    counts = [schedule.count_batches(step) for step in range(1651)]
    assert counts == [0, *np.cumsum(needed)]


def test_no_part_of_a_batch_is_seen_twice():
    schedule = make_schedule(**{"train.adversarial_batch_size": 4})
    seen = set()
    for step in range(schedule.warmup, 1650):
        seen = set() if schedule.needs_batch(step) else seen
        assert schedule.find_part(step) not in seen
        seen.add(schedule.find_part(step))
