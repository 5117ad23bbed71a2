import types

import numpy as np
import plotly.graph_objects as go
import pytest

from retroguide_jax.config import load_config
from retroguide_jax.report.cloud import Cloud, draw_map
from retroguide_jax.report.curves import draw_curves, draw_learning_rates, find_skipped, list_once


def make_run(name, **curves):
    curves = {key.replace("__", "/"): value for key, value in curves.items()}
    return types.SimpleNamespace(name=name, curves=curves, config=load_config("city"))


def test_runs_share_axes_and_skips_are_marked_in_the_first():
    steps = [1, 2, 3]
    first = make_run(
        "<b>",
        contrastive__loss=(steps, [4.0, 0.4, 0.1]),
        d__loss=(steps, [1.0, None, -1.0]),
        val__psnr=([3], [14.5]),
        skipped__total=(steps, [0.0, 2.0, 2.0]),
    )
    other = make_run("other", contrastive__loss=(steps, [4.0, 2.0, 1.0]))
    charts = {(chart.group, chart.title): chart for chart in draw_curves([first, other])}
    assert set(charts) == {("Embedder", "loss, log axis"), ("Discriminator", "loss")}
    figure = charts["Embedder", "loss, log axis"].figure
    assert [trace["name"] for trace in figure["data"]] == ["&lt;b&gt;", "other"]
    assert figure["layout"]["yaxis"]["type"] == "log"
    assert [mark["x0"] for mark in figure["layout"]["shapes"]] == [2]
    assert find_skipped(first) == [2]
    assert list_once(first) == ["at step 3: PSNR, dB = 14.5"]
    for chart in charts.values():
        go.Figure(chart.figure)  # raises where Plotly knows no such field


def test_scores_of_the_config_s_metrics_and_judges_have_charts():
    twice = ([1, 2], [0.5, 0.6])
    names = ("psnr", "psnr_shuffled", "fd_saig", "r@1_generated/saig", "r@1_real/embedder")
    names += ("r@1_shuffled/saig", "r@5_real/saig", "mrr_generated/saig", "lpips_alex")
    run = make_run("a", **{f"val/{name}": twice for name in names})
    assert {chart.title for chart in draw_curves([run])} == {
        "PSNR, dB",
        "fd, saig",
        "R@1 of the generated, saig",
        "R@1 of the real, own embedder",
        "lpips alex",
    }


def test_learning_rates_are_those_of_the_schedule():
    config = load_config("city")
    chart = draw_learning_rates(types.SimpleNamespace(config=config))
    go.Figure(chart.figure)
    lines = {trace["name"]: trace for trace in chart.figure["data"]}
    assert set(lines) == {"embedder", "generator", "discriminator"}
    generator = lines["generator"]
    assert generator["x"][-1] == config.train.num_steps - config.train.contrastive_warmup_steps
    assert generator["y"][0] == 0 and generator["y"][-1] == pytest.approx(0, abs=1e-9)
    assert max(generator["y"]) == pytest.approx(config.optimizer.generator.learning_rate, rel=0.05)


def test_the_map_shows_the_directions_of_most_variance():
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(30, 4)) * [0.1, 5, 0.1, 2]
    cloud = Cloud([f"<i>{k}" for k in range(30)], wide, wide + 0.01, None, range(30), "position")
    figure = draw_map(cloud)
    go.Figure(figure)
    both = np.concatenate([wide, wide + 0.01])
    variances = np.sort(both.var(axis=0))[::-1]
    share = np.linalg.eigvalsh(np.cov(both.T))[::-1][0] / variances.sum() * 59 / 60
    assert f"{share:.1%}" in figure["layout"]["xaxis"]["title"]["text"]
    pairs, source, target = figure["data"]
    assert source["name"] == "source" and "&lt;i&gt;0 (source)" in source["text"]
    # A line goes from the source to its target and is lifted before the next.
    assert pairs["x"][:3] == [source["x"][0], target["x"][0], None]
    spread = np.abs(np.corrcoef(source["x"], wide[:, 1])[0, 1])
    assert spread > 0.99
