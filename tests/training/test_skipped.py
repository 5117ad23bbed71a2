"""Records of skipped updates, and the advice after a run has diverged."""

import json
import math

import numpy as np
from tiny import make_tiny_config

from retroguide_jax.schedule import Schedule
from retroguide_jax.training.skipped import DivergedError, SkippedUpdates, name_culprits

GOOD = {
    "contrastive/loss": 2.0,
    "contrastive/grad": 1.0,
    "contrastive/param_norm": 3.0,
    "d/loss": 1.0,
    "d/grad": 1.0,
    "d/penalty": math.nan,
    "d/param_norm": 3.0,
    "g/l1": 0.5,
    "g/grad": 1.0,
    "g/param_norm": 3.0,
}
NOT_DUE = {name: math.nan for name in GOOD if name.startswith("contrastive/")}


def make_row(total, **fields):
    row = GOOD | {"skipped/total": total, "skipped/streak": 0} | fields
    return {name: np.float32(value) for name, value in row.items()}


def test_the_networks_at_fault_are_named():
    assert name_culprits(GOOD | {"g/grad": math.inf} | NOT_DUE) == ["generator"]
    assert name_culprits(GOOD | {"contrastive/loss": math.nan}) == ["embedder"]
    assert name_culprits(GOOD | {"d/loss": math.inf, "g/l1": math.nan}) == [
        "discriminator",
        "generator",
    ]
    assert name_culprits(NOT_DUE) == ["embedder"]  # the parameters themselves are not finite


def test_a_skipped_update_is_written_down_with_its_batch(tmp_path, capsys):
    schedule = Schedule(make_tiny_config(mode="contrastive"))
    skipped = SkippedUpdates(tmp_path, schedule, lambda number: [f"pair_{number}"])
    skipped.begin(step=10, position=17, total=1)
    bad = {"g/grad": math.inf, **NOT_DUE}
    rows = [make_row(1), make_row(2, **bad), make_row(2), make_row(3, **{"d/loss": math.nan})]
    assert skipped.report(14, rows) == ["discriminator"]
    assert skipped.report(16, [make_row(3), make_row(3)]) == []
    files = sorted(path.name for path in (tmp_path / "nonfinite").iterdir())
    assert files == ["step_000012.json", "step_000014.json"]
    content = json.loads((tmp_path / "nonfinite" / files[0]).read_text())
    # Step 11 takes batch number 17, the position.
    assert (content["step"], content["batch"], content["ids"]) == (12, 18, ["pair_18"])
    assert content["networks"] == ["generator"]
    assert content["metrics"]["g/grad"] == "inf" and content["metrics"]["g/param_norm"] == 3.0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "step 12: " in lines[0] and "step_000014.json" in lines[1]


def test_steps_that_share_a_batch_name_that_batch(tmp_path):
    schedule = Schedule(make_tiny_config(**{"train.contrastive_every": 4}))  # two parts per batch
    skipped = SkippedUpdates(tmp_path, schedule, lambda number: [f"pair_{number}"])
    skipped.begin(step=3, position=5, total=0)  # step 4 uses the second part of batch 5
    bad = {"g/grad": math.inf, **NOT_DUE}
    skipped.report(7, [make_row(total, **bad) for total in (1, 2, 3, 4)])
    batches = [
        json.loads(path.read_text())["batch"] for path in sorted((tmp_path / "nonfinite").iterdir())
    ]
    assert batches == [5, 6, 6, 7]


def test_only_the_first_few_are_written_down(tmp_path, capsys):
    schedule = Schedule(make_tiny_config(mode="contrastive"))
    skipped = SkippedUpdates(tmp_path, schedule, lambda number: [])
    skipped.begin(0, 0, 0)
    skipped.report(14, [make_row(total, **{"g/grad": math.nan}) for total in range(1, 15)])
    assert len(list((tmp_path / "nonfinite").iterdir())) == 10
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 14 and "holds 10 files, no more" in lines[-1]


def test_the_advice_is_flags_to_paste(tmp_path):
    config = make_tiny_config(**{"optimizer.generator.learning_rate": 2e-4})
    error = DivergedError(tmp_path, config, 20, ["generator"])
    for flag in (
        "--config.optimizer.generator.learning_rate=0.0001 ",
        "--allow_change=optimizer.generator.learning_rate",
        "--config.train.max_rollbacks=1 ",
    ):
        assert flag in str(error)
    assert "\n" not in str(error)
