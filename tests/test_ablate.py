"""Ablations: the commands and their order, and the scores in the tables."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from ablation import running, table, tasks

    return tasks, table, running


def write_scores(folder, values):
    folder.mkdir(parents=True)
    metrics = {name: {"value": value} for name, value in values.items()}
    (folder / "scores.json").write_text(json.dumps({"metrics": metrics}))


def test_no_task_needs_a_later_one(ablation):
    tasks = ablation[0]
    found = tasks.list_tasks(
        Path("out"), Path("judges"), tasks.NAMES, 2, 7, ["--config.dtype=bfloat16"]
    )
    done = set()
    for task in found:
        needed = [text.partition("=")[2] for text in task.command if text.startswith("--judge=")]
        needed += [t.split("=")[1] for t in task.command if "frozen_embedder" in t]
        if "train" not in task.command:
            needed.append(next(t for t in task.command if t.startswith("--workdir=")).split("=")[1])
        assert set(needed) == set(map(str, task.needs)) <= done, task
        done.add(str(task.place))
    trained = [task for task in found if "train" in task.command]
    assert all(task.command[-1] == "--config.dtype=bfloat16" for task in trained)
    assert len(trained) == 2 + 2 * len(tasks.NAMES)  # judges; embedders stand in for `nearest`
    assert len(found) - len(trained) == 2 * len(tasks.NAMES)


def test_every_change_makes_a_config(ablation):
    from retroguide_jax.config import load_config
    from retroguide_jax.networks import make_networks

    tasks, full = ablation[0], load_config("ablations:full").to_dict()
    for task in tasks.list_tasks(Path("out"), Path("judges"), tasks.NAMES, 1, 7, []):
        specs = [text.partition("=")[2] for text in task.command if text.startswith("--config=")]
        for spec in specs:
            config = load_config(spec)
            make_networks(config)
            assert (config.to_dict() == full) == (spec in ("ablations:full", "city"))


def test_tables_of_means_and_of_differences_seed_by_seed(ablation, tmp_path):
    scores = {"full": [0.5, 0.7, 0.6], "no_style": [0.4, 0.5, 0.6]}
    for name, values in scores.items():
        for seed, value in enumerate(values):
            row = {"r@1_generated/saig": value, "r@1_real/saig": 0.8, "psnr": 14 + value}
            write_scores(tmp_path / name / f"seed_{seed}", row)
    text = ablation[1].format_tables(ablation[1].read_scores(tmp_path))
    lines = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    rows = {line[1]: line for line in lines[: lines.index([""])]}
    differences = {line[1]: line for line in lines if line != [""]}

    def describe(values, sign=""):
        half = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))[1] - np.mean(values)
        return f"{np.mean(values):{sign}.3f} ± {half:.3f}"

    assert rows["full"][2:4] == ["3", describe(scores["full"])]
    assert rows["*real images*"][3] == "0.800"
    assert differences["no_style"][2:4] == ["3", describe([0.1, 0.2, 0.0], "+")]


def make_task(ablation, folder, name, code="pass", needs=()):
    """A task that records when it begins and ends."""
    note = f"import time\nprint(time.monotonic())\n{code}\nprint(time.monotonic())"
    place = folder / name
    return ablation[0].Task(name, place, place / "done", ("-c", note), tuple(needs))


def read_times(task):
    lines = (task.place / "log.txt").read_text().splitlines()
    return [float(line) for line in lines if line.replace(".", "").isdecimal()]


def test_what_needs_nothing_runs_side_by_side_and_the_rest_waits(ablation, tmp_path):
    def meet(name, other):
        """Ends once the other has begun; the other would not begin if it waited for this one."""
        folder = repr(str(tmp_path))
        code = f"import pathlib as p; (p.Path({folder}) / '{name}').touch(); end = time.time() + 60"
        look = f"not (p.Path({folder}) / '{other}').exists()"
        return f"{code}\nwhile {look}:\n  time.sleep(0.01); assert time.time() < end\n"

    a = make_task(ablation, tmp_path / "runs", "a", meet("a", "b"))
    later = make_task(ablation, tmp_path / "runs", "later", needs=[a.place])
    b = make_task(ablation, tmp_path / "runs", "b", meet("b", "a"))
    assert ablation[2].run_tasks([a, later, b], 2) == []
    assert read_times(later)[0] > read_times(a)[1]


def test_what_is_done_is_not_done_again(ablation, tmp_path):
    task = make_task(ablation, tmp_path, "a")
    task.place.mkdir()
    task.done.touch()
    assert ablation[2].run_tasks([task], 1) == []
    assert not (task.place / "log.txt").exists()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_what_fails_is_reported_and_only_what_needs_it_left_out(
    ablation, tmp_path, capsys, num_workers
):
    bad = make_task(ablation, tmp_path, "bad", "print('why'); exit(3)")
    last = make_task(ablation, tmp_path, "last", needs=[bad.place])
    deeper = make_task(ablation, tmp_path, "deeper", needs=[last.place])
    good = make_task(ablation, tmp_path, "good")
    failed = ablation[2].run_tasks([bad, last, deeper, good], num_workers)
    assert failed == [bad.place, last.place, deeper.place]
    assert "why" in (bad.place / "log.txt").read_text()
    assert not last.place.exists() and len(read_times(good)) == 2
    out = capsys.readouterr().out
    assert "1/4 bad" in out and "FAILED" in out
    assert f"2/4 last: left out for {bad.place}" in out
    assert f"3/4 deeper: left out for {last.place}" in out


def test_a_folder_without_scores_has_no_table(ablation, monkeypatch, tmp_path):
    import ablate

    monkeypatch.setattr("sys.argv", ["ablate.py", f"--output={tmp_path}", "--table"])
    with pytest.raises(SystemExit, match=f"error: no scores in {tmp_path}"):
        ablate.main()
