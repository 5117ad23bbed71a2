import argparse
import json
import os
import sys
import types

import pytest

from retroguide_jax.commands import evaluate
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import job

DATA = types.SimpleNamespace(name="toy", config_name="tiny", test_split="val")


@pytest.fixture
def calls(monkeypatch):
    """Replaces loading, data and the job; returns the arguments that the job was called with."""
    seen = {}

    def load_model(workdir, checkpoint="latest"):
        config = types.SimpleNamespace(data=DATA)
        return types.SimpleNamespace(config=config, step=3, place=(str(workdir), checkpoint))

    def run_job(model, judges, builder, data_config, split, **kwargs):
        kwargs["progress_fn"](4, 4)
        seen.update(kwargs, model=model, judges=judges, split=split, builder=builder)
        metrics = {"r@1_real/embedder": {"value": 0.5, "n": 4}}
        return {"step": 3, "split": split, "direction": "a2g", "metrics": metrics, "absent": []}

    loading = types.ModuleType("retroguide_jax.training.loading")
    loading.load_model = load_model
    catalog = types.ModuleType("retroguide_jax.data.catalog")
    catalog.open_dataset = lambda data_config, data_dir: (data_config.name, data_dir)
    monkeypatch.setitem(sys.modules, "retroguide_jax.training.loading", loading)
    monkeypatch.setitem(sys.modules, "retroguide_jax.data.catalog", catalog)
    monkeypatch.setattr(job, "evaluate", run_job)
    return seen


def run(*flags):
    parser = argparse.ArgumentParser()
    evaluate.add_flags(parser)
    return evaluate.run(parser.parse_args(flags))


def test_row_is_printed_and_stored(tmp_path, calls, capsys):
    flags = (f"--workdir={tmp_path}", "--judge=a/j", "--judge=b/j", "--split=test[:4]")
    file = tmp_path / "row.json"
    assert run(*flags, "--data_dir=d", "--checkpoint=best", f"--json={file}") == 0
    assert calls["model"].place == (str(tmp_path), "best")
    assert {name: judge.place for name, judge in calls["judges"].items()} == {
        "j": ("a/j", "latest"),
        "j_2": ("b/j", "latest"),
    }
    assert (calls["split"], calls["builder"]) == ("test[:4]", ("toy", "d"))
    (line,) = (tmp_path / "eval" / "results.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row == json.loads(file.read_text())
    assert row["judges"]["j_2"] == {"workdir": "b/j", "step": 3}
    assert (row["checkpoint"], row["dataset"]) == ("best", "toy/tiny")
    assert row["time"].endswith("+00:00")
    assert "r@1/embedder" in capsys.readouterr().out


def test_the_split_is_the_config_s_unless_one_is_named(tmp_path, calls):
    assert run(f"--workdir={tmp_path}") == 0
    assert calls["split"] == "val"


def test_judges_are_named_after_their_directories():
    judges = evaluate.name_judges("w", ["runs/judge/", "embedder", "other/judge", "x/judge"])
    assert list(judges) == ["judge", "embedder_2", "judge_2", "judge_3"]


def test_model_is_no_judge_of_itself(tmp_path):
    (tmp_path / "w").mkdir()
    os.symlink(tmp_path / "w", tmp_path / "link")
    for judge in ("w", "w/", "../" + tmp_path.name + "/w", "link"):
        with pytest.raises(UserError, match="is the model to be scored"):
            evaluate.name_judges(str(tmp_path / "w"), [f"{tmp_path}/{judge}"])
    with pytest.raises(UserError, match="given twice"):
        evaluate.name_judges("w", ["j", "./j"])


@pytest.mark.parametrize("flag", ["--num_noises=0", "--batch_size=0", "--max_examples=1"])
def test_numbers_out_of_range(calls, flag):
    with pytest.raises(UserError, match=flag.split("=")[0]):
        run("--workdir=w", flag)
