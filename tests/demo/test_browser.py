"""The page in a browser: a visitor drops an image, moves the slider, makes a mistake."""

import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
DROP = """([name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name));
  const target = document.querySelector("#drop");
  const options = {dataTransfer: data, bubbles: true, cancelable: true};
  target.dispatchEvent(new DragEvent("drop", options));
}"""


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    """The page, which must contact no other host; `page.said` holds the console's messages."""
    page = browser.new_page()
    page.said, asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server)
    yield page
    page.close()
    assert asked and all(url.startswith((server, "data:")) for url in asked)


def drop(page, name, encoded):
    page.evaluate(DROP, [name, list(encoded)])


def wait_for_status(page, text):
    page.wait_for_function(
        "text => document.querySelector('#status').textContent == text", arg=text
    )


def list_pictures(page):
    return page.eval_on_selector_all("#pictures img", "all => all.map(image => image.src)")


def test_drop_and_slide(page, place):
    assert page.inner_text("body").startswith("The model is ready.")
    drop(page, "tile.png", (place / "tile.png").read_bytes())
    wait_for_status(page, "Ready.")
    before = list_pictures(page)
    assert len(set(before)) == 6
    assert page.locator("#found li").count() == 5
    with page.expect_response("**/generate"):
        page.locator("#seed").fill("7")
    wait_for_status(page, "Ready.")
    assert not set(before) & set(list_pictures(page))
    assert page.said == []


def test_only_the_newest_seed_is_asked_for(page, place):
    drop(page, "tile.png", (place / "tile.png").read_bytes())
    wait_for_status(page, "Ready.")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(
        """() => { const slider = document.querySelector("#seed");
        for (let seed = 1; seed < 60; ++seed) {
          slider.value = seed; slider.dispatchEvent(new Event("input")); } }"""
    )
    page.wait_for_timeout(400)
    wait_for_status(page, "Ready.")
    assert len([url for url in asked if url.endswith("/generate")]) == 1


def test_an_example_finds_its_place_marked(page):
    page.locator(".examples button").nth(2).click()
    wait_for_status(page, "Ready.")
    chosen = page.locator('.examples button[aria-pressed="true"]').get_attribute("data-id")
    ids = page.eval_on_selector_all("#found li img", "all => all.map(image => image.alt)")
    marked = page.eval_on_selector_all("#found .right img", "all => all.map(image => image.alt)")
    assert chosen in ids and marked == [chosen]


def test_text_named_png_gets_a_sentence(page):
    drop(page, "notes.png", b"just some text")
    page.wait_for_selector("#status.wrong")
    assert page.inner_text("#status").startswith("That did not work: notes.png: not a ")


def test_busy_is_reported_and_tried_again(page, place):
    busy = {"status": 503, "headers": {"Retry-After": "1"}, "json": {"error": "others are waiting"}}
    page.route("**/generate", lambda route: route.fulfill(**busy), times=1)
    drop(page, "tile.png", (place / "tile.png").read_bytes())
    wait_for_status(page, "Busy: others are waiting. Trying by itself in 1 s.")
    wait_for_status(page, "Ready.")
