"""Colours of report and demo page: contrast as WCAG 2 AA asks, and a style for every mark."""

import re
from importlib import resources

import pytest

from retroguide_jax.report import curves, headlines

STYLES = {"report": "style.css", "demo": "page.css"}


def read_style(package):
    return resources.files(f"retroguide_jax.{package}").joinpath(STYLES[package]).read_text()


def measure_luminance(colour):
    """The relative luminance of "#rrggbb", 0 to 1; WCAG 2."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def measure_contrast(one, other):
    """The contrast ratio of two colours, 1 to 21; WCAG 2."""
    dark, light = sorted((measure_luminance(one), measure_luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_known_colours():
    assert measure_contrast("#000000", "#ffffff") == pytest.approx(21)
    assert measure_contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def read_themes(package):
    blocks = re.findall(r":root[^{]*\{([^}]*--paper[^}]*)\}", read_style(package))
    return [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in blocks]


@pytest.mark.parametrize("package", STYLES)
def test_text_contrasts_with_what_it_stands_on(package):
    themes = read_themes(package)
    assert len(themes) >= 2  # light and dark
    for theme in themes:
        for text in ("ink", "soft", "accent", "right", "wrong"):
            for ground in {"paper", "card", "note", "empty"} & theme.keys():
                ratio = measure_contrast(theme[text], theme[ground])
                assert ratio >= 4.5, (text, ground, theme["paper"], ratio)


def test_lines_of_charts_contrast_with_the_page():
    for theme in read_themes("report"):
        for colour in curves.COLOURS:
            assert measure_contrast(colour, theme["paper"]) >= 3, (colour, theme["paper"])


def test_every_mark_of_a_bar_has_a_style():
    score = headlines.Score("r@1", judge="judge")
    variants = {
        name: {"value": value, "low": None, "high": None, "n": 9}
        for name, value in {
            "generated": 0.5,
            "shuffled": 0.1,
            "mean_image": 0.2,
            "real": 0.7,
        }.items()
    }
    made = headlines.make_headlines({score.of(name): entry for name, entry in variants.items()}, "")
    names = {name.replace(" ", "-") for headline in made for name in headline.marks}
    assert {"score", "ceiling"} <= names
    for name in names - {"floor"}:  # looks as `.mark` does
        assert f".bar .{name} " in read_style("report"), name
