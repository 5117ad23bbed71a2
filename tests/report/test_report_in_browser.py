"""The page in a browser: it draws its charts, loads nothing, and fits a phone."""

import shutil

import pytest
from hostile_run import HOSTILE_RUN

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="needs Chromium or Chrome: apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=FLAGS.split())
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, page):
    """Returns open(width, scheme) -> (the page, its errors)."""

    def open_(width, scheme):
        tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        wrong = []
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))

        def check(route):
            if route.request.url.startswith("file:"):
                return route.continue_()
            wrong.append(f"asked for {route.request.url}")
            return route.abort()

        tab.route(lambda url: not url.startswith("data:"), check)
        tab.goto(page.as_uri())
        tab.wait_for_selector(".js-plotly-plot .main-svg")
        return tab, wrong

    return open_


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_it_draws_asks_for_nothing_and_fits(open_page, width, scheme):
    tab, wrong = open_page(width, scheme)
    shown = tab.locator(".chart:visible")
    assert shown.count() >= 3
    assert tab.locator(".js-plotly-plot:visible").count() == shown.count()
    tab.locator("details summary").evaluate_all("all => all.forEach(one => one.click())")
    # The learning rates were hidden, and are drawn when they are opened.
    tab.wait_for_function("() => [...document.querySelectorAll('.chart')].every(c => c.data)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    images = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert tab.evaluate(images)
    assert tab.title() == f"{HOSTILE_RUN}: report"
    light = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (light == "rgb(251, 251, 250)") == (scheme == "light")
    assert wrong == []


def test_the_button_changes_page_and_charts(open_page):
    tab, wrong = open_page(1280, "light")

    def look():
        colour = "getComputedStyle(document.querySelector('.chart text')).fill"
        return tab.evaluate(f"[getComputedStyle(document.body).backgroundColor, {colour}]")

    before = look()
    tab.click("#theme")
    tab.wait_for_timeout(200)
    after = look()
    assert before[0] != after[0] and before[1] != after[1]
    tab.click("#theme")
    tab.wait_for_timeout(200)
    assert look() == before and wrong == []
