"""A whole run in this process, with batches that make updates fail."""

import json
import re

import jax
import numpy as np
import pytest
from pair_files import write_pairs
from tiny import make_tiny_config

from retroguide_jax import progress
from retroguide_jax.checkpoints.saving import list_steps
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.images import to_float
from retroguide_jax.data.pipeline import read_batch_ids
from retroguide_jax.errors import UserError
from retroguide_jax.training import loop
from retroguide_jax.training.skipped import DivergedError

FIELDS = {
    "mode": "contrastive",
    "data.name": "image_pairs",
    "data.config_name": "",
    "data.train_split": "train",
    "data.val_split": "train[:1]",  # too few to score
    "train.num_steps": 10,
    "train.log_every": 1,
    "train.checkpoint_every": 4,
    "train.keep_checkpoints": 9,
    "train.max_nonfinite": 3,
    "train.profile_steps": (2, 3),
}


class _Spoilt:
    """A training iterator that yields NaN in some batches."""

    def __init__(self, iterator, bad):
        self.iterator, self.bad = iterator, bad

    def __next__(self):
        number = self.get_state()["next_index"]
        batch = next(self.iterator)
        # uint8 pixels cannot be NaN: replace them by floats, which the step takes too.
        noise = np.float32(np.nan if number in self.bad else 0)
        return batch | {view: to_float(batch[view]) + noise for view in ("aerial", "ground")}

    def get_state(self):
        return self.iterator.get_state()

    def set_state(self, state):
        self.iterator.set_state(state)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Returns train(bad, **fields) -> the config and the work directory of a run."""
    raw = write_pairs(tmp_path / "raw", 40)
    make = loop.make_train_iterator

    def run(bad, **fields):
        config = make_tiny_config(**FIELDS | {"data.raw_dir": str(raw)} | fields)
        monkeypatch.setattr(
            loop, "make_train_iterator", lambda *args, **kwargs: _Spoilt(make(*args, **kwargs), bad)
        )
        loop.train(config, tmp_path / "run", str(tmp_path / "built"))
        return config, tmp_path / "run"

    return run


# Step 5 succeeds, 6 to 8 fail; this is noticed while step 9 is logged, when nine batches are drawn.
BAD = {5, 6, 7}


def read_json(path):
    return json.loads(path.read_text())


def check_speeds(workdir, printed):
    """Every step but the first, which compiles, has its speed."""
    lines = [line for line in printed.splitlines() if line.startswith("step ")]
    assert [" left)" in line for line in lines[:3]] == [False, True, True]
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert not any(name.startswith("seconds/") for name in rows[0])
    for row in rows[1:]:
        assert 0 <= row["seconds/waiting_for_data"] <= row["seconds/step"]
        assert row["images_per_second"] == pytest.approx(16 / row["seconds/step"])


def check_trace(folder):
    """The trace holds the two steps, where TensorBoard looks for it and in the form jax reads."""
    (path,) = folder.glob("plugins/profile/*/*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    events = [event for plane in planes for line in plane.lines for event in line.events]
    steps = [dict(event.stats)["step_num"] for event in events if event.name == "train"]
    assert sorted(steps) == [2, 3]


def test_profile_steps_that_are_not_of_the_run_are_an_error(train):
    with pytest.raises(UserError, match="give the first and the last step to trace"):
        train((), **{"train.profile_steps": (9, 11)})


STAGES = ("opening the data set", "restoring or creating the state", "compiling the training step")


def test_a_run_that_diverges_goes_back_and_on_with_other_batches(
    train, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(progress, "_SECONDS_PER_LINE", 0.01)
    config, workdir = train(BAD, **{"train.max_rollbacks": 1})
    printed = capsys.readouterr()
    assert "ROLLED BACK to step 4, on with new batches" in printed.err
    assert all(re.search(rf"{stage} \[\d\d:", printed.err) for stage in STAGES)
    assert f"{workdir}: trained to step 10; next:\n  retroguide evaluate" in printed.out
    check_speeds(workdir, printed.out)
    check_trace(workdir / "events")
    meta = read_json(workdir / "checkpoints" / "10" / "meta" / "metadata")
    assert (meta["position"], meta["rollbacks"], meta["streak"]) == (15, [4], 0)
    assert list_steps(workdir) == [4, 8, 10]
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert all(row["contrastive/loss"] > 0 and row["skipped/total"] == 0 for row in rows)
    builder = open_dataset(config.data, tmp_path / "built")
    for step in (6, 7, 8):
        found = read_json(workdir / "nonfinite" / f"step_{step:06d}.json")
        wanted = read_batch_ids(
            builder, config.data, batch_size=16, seed=config.seed, number=step - 1
        )
        assert (found["networks"], found["ids"]) == (["embedder"], wanted)
        assert found["metrics"]["contrastive/loss"] == "nan"


@pytest.mark.slow
def test_without_roll_backs_it_ends_and_the_same_command_resumes(train, tmp_path):
    with pytest.raises(DivergedError, match="--config.train.max_rollbacks=1 "):
        train(BAD)
    assert list_steps(tmp_path / "run") == [4, 8]
    _, workdir = train(BAD)
    meta = read_json(workdir / "checkpoints" / "10" / "meta" / "metadata")
    assert (meta["position"], meta["rollbacks"], meta["streak"]) == (10, [], 0)
