"""Writes the report as one self-contained HTML file: it needs no internet and no other file."""

import importlib.resources
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from retroguide_jax import __version__
from retroguide_jax.config import config_to_json
from retroguide_jax.errors import UserError, require_packages
from retroguide_jax.files import write_beside
from retroguide_jax.provenance import describe_command, find_commit, format_time
from retroguide_jax.report import curves, sections, tables
from retroguide_jax.report.cloud import MOST_PAIRS, draw_map
from retroguide_jax.report.collect import Run
from retroguide_jax.report.headlines import make_headlines
from retroguide_jax.report.pictures import SCALE
from retroguide_jax.report.ranked import RankedExamples

_PARTS = ("template.html", "style.css", "page.js")


def write_page(
    path: str | Path,
    runs: Sequence[Run],
    open_fn: Callable[[], RankedExamples],
) -> list[str]:
    """Writes the page of the first run, compared with the others.

    Args:
      path: of the HTML file.
      runs: from `collect.open_run`; the page is about the first.
      open_fn: opens model and data; its UserError becomes a note on the page.

    Returns:
      One sentence per part that is missing on the page.

    Raises:
      UserError: jinja2 or plotly is not installed, or the file cannot be written.
    """
    environment, plotly = _open_libraries()
    run = runs[0]
    shown, missing = _show_examples(run, open_fn)
    figures = shown.pop("figures")
    charts = curves.draw_curves(runs)
    if charts:
        charts.append(curves.draw_learning_rates(run))
    figures |= {f"curve_{number}": chart.figure for number, chart in enumerate(charts)}
    comparison, notes = tables.make_comparison(runs) if len(runs) > 1 else ([], [])
    parts = {name.partition(".")[0]: _read_part(name) for name in _PARTS[1:]}
    text = environment.get_template(_PARTS[0]).render(
        runs=runs,
        run=run,
        parts=parts,
        plotly=plotly,
        figures=figures,
        headlines=make_headlines(run.scores, _name_target(run)),
        noun=_name_target(run),
        charts=charts,
        once=curves.list_once(run),
        skipped=curves.find_skipped(run),
        table=tables.make_scores_table(run.scores),
        comparison=comparison,
        notes=notes,
        differences=tables.list_differences(run.config),
        config=config_to_json(run.config),
        commands=_list_commands(run),
        made={"version": __version__, "commit": find_commit(), "time": format_time()},
        colours=curves.COLOURS,
        scale=SCALE,
        most_pairs=MOST_PAIRS,
        **shown,
    )
    with write_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")
    problems = [problem for each in runs for problem in each.problems]
    return [*problems, *([] if run.rows else ["no evaluation yet"]), *missing, *notes]


def _show_examples(
    run: Run, open_fn: Callable[[], RankedExamples]
) -> tuple[dict[str, Any], list[str]]:
    """(template variables about places, one sentence per part of them that is missing)."""
    nothing = {"examples": None, "galleries": {}, "maps": [], "map_kinds": [], "figures": {}}
    try:
        examples = open_fn()
    except UserError as error:
        return {**nothing, "reason": str(error)}, [str(error)]
    cloud = sections.make_cloud(examples)
    maps, kinds = sections.make_maps(examples) if examples.model.has_generator else ([], [])
    return {
        "examples": sections.describe(examples) | {"colours": cloud.meaning},
        "galleries": sections.make_galleries(examples),
        "maps": maps,
        "map_kinds": kinds,
        "figures": {"map": draw_map(cloud)},
        "reason": "",
    }, []


def _open_libraries():
    require_packages("a report", "pages", "jinja2", "plotly")
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read_part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = _to_script
    return environment, get_plotlyjs()


def _read_part(name: str) -> str:
    return (
        importlib.resources.files("retroguide_jax.report")
        .joinpath(name)
        .read_text(encoding="utf-8")
    )


def _to_script(value: Any):
    """JSON that is safe inside <script>: without < it can neither open nor close a tag."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _name_target(run: Run) -> str:
    if run.config.direction == "g2a":
        return "aerial image"
    return "panorama" if run.config.data.panorama else "street view"


def _list_commands(run: Run) -> list[tuple[str, str]]:
    """(purpose, command) of training, evaluations and this page; older ledger rows have none."""
    listed = [(f"training from step {row['step']}", row["command"]) for row in run.starts]
    evaluations = [row for row in run.rows if isinstance(row.get("command"), str)]
    listed += [(f"evaluation of {row['time']}", row["command"]) for row in evaluations]
    return [*listed, ("this page", describe_command())]
