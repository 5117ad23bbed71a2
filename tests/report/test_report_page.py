import csv
import re
import shutil

import numpy as np
import pytest
from hostile_run import HOSTILE, HOSTILE_RUN, NUM_NOISES, NUM_TEST

from retroguide_jax import __main__ as cli
from retroguide_jax.errors import UserError
from retroguide_jax.report import page as page_lib
from retroguide_jax.report.ranked import RankedExamples


def test_everything_that_a_user_made_is_escaped(page):
    text = page.read_text()
    assert HOSTILE not in text and "<i>'" not in text and '"b" <i>' not in text
    assert text.count("</script>") == 3  # Plotly, the figures, the page's own
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "Training from step 2, 2026-01-01" in text and "training from step 2" in text


def test_a_run_beside_its_copy_differs_in_nothing(page):
    text = page.read_text()
    assert text.count("no difference shown") >= 3
    assert "run is better" not in text and "other is better" not in text
    assert "cannot be compared" not in text


def test_nothing_on_the_page_leads_out_of_it(page):
    text = re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    assert "default-src 'none'" in text and "@import" not in text and "url(" not in text


def test_damaged_lines_are_reported_on_the_page_and_on_the_terminal(world, tmp_path, capsys):
    arguments = [f"--workdir={world / 'b'}", f"--data_dir={tmp_path}"]
    assert cli.main(["report", *arguments, f"--output={tmp_path / 'p.html'}"]) == 0
    printed, text = capsys.readouterr().out, (tmp_path / "p.html").read_text()
    assert "metrics.jsonl: 1 lines are damaged: 5" in printed and "1 lines are damaged: 5" in text
    # Without the data set each section of places says so, and how to fill it.
    assert "not on the page:" in printed
    assert text.count("Not shown:") == 4 and "--data_dir=DIR" in text


def test_a_run_that_has_only_begun_has_a_page_of_notes(world, tmp_path):
    (tmp_path / "w").mkdir()
    shutil.copy(world / "b" / "config.json", tmp_path / "w")
    assert cli.main(["report", f"--workdir={tmp_path / 'w'}"]) == 0
    text = (tmp_path / "w" / "report.html").read_text()
    for note in ("retroguide evaluate", "no <code>metrics.jsonl</code>", "has no latest check"):
        assert note in text
    assert cli.main(["report", f"--workdir={tmp_path / 'nothing'}"]) == 1


def test_an_embedder_on_its_own_ranks_real_images(world, tmp_path):
    arguments = [f"--workdir={world / 'judge'}", f"--data_dir={world / 'data'}"]
    assert cli.main(["report", *arguments, f"--output={tmp_path / 'p.html'}"]) == 0
    text = (tmp_path / "p.html").read_text()
    assert "rank of the real image" in text and "it has no generator" in text


def test_ranks_and_psnr_are_those_of_the_evaluation(world):
    workdir = world / HOSTILE_RUN
    look = RankedExamples(
        workdir,
        {"judge": world / "judge"},
        data_dir=str(world / "data"),
        num_noises=NUM_NOISES,
        max_examples=100,
    )
    (path,) = (workdir / "eval" / "per_image").glob("*.csv")
    rows = list(csv.DictReader(path.open()))
    assert look.num == look.num_all == len(rows) == NUM_TEST

    def read(name):
        return np.array([[float(row[f"{name}#{k}"]) for k in range(NUM_NOISES)] for row in rows])

    for judge in ("judge", "embedder"):
        np.testing.assert_array_equal(look.ranks[judge], read(f"rank_generated/{judge}"))
    np.testing.assert_allclose(look.columns["psnr"], read("psnr"))
    best, worst = look.list_best()[0], look.list_best()[-1]
    assert look.ranks["judge"][best, 0] == look.ranks["judge"][:, 0].min()
    found = look.find(worst, "judge", NUM_TEST)
    assert found.is_right.index(True) + 1 == look.ranks["judge"][worst, 0]
    assert found.rows[found.is_right.index(True)] == worst
    assert look.locate()[1].startswith("longitude")
    (place,) = look.draw([worst])
    assert place.generated.shape == (NUM_NOISES, 8, 32, 3) and HOSTILE in place.id


def test_a_missing_library_is_named_with_the_extra(world, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(UserError, match=r"pip install 'retroguide_jax\[pages\]'"):
        page_lib.write_page(world / "never.html", [], None)


def test_figures_in_a_script_cannot_end_it():
    text = str(page_lib._to_script({"id": HOSTILE}))
    assert "<" not in text and ">" not in text
