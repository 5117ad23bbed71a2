"""Answers of the demo: pictures, error messages, and refusals."""

import asyncio
import base64
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from demo_server import serve
from PIL import Image

from retroguide_jax import __main__ as cli
from retroguide_jax.data import images
from retroguide_jax.demo.app import make_app
from retroguide_jax.demo.gallery import Gallery
from retroguide_jax.demo.uploads import Limits
from retroguide_jax.retrieval.index import Index


def post(address, encoded, seed=0, name="tile.png", **options):
    files, data = {"image": (name, encoded)}, {"seed": str(seed)}
    return httpx.post(f"{address}/generate", files=files, data=data, timeout=60, **options)


def read(uri):
    kind, _, text = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def encode(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.fixture
def tile(place):
    return (place / "tile.png").read_bytes()


def test_pictures_are_those_of_generate(server, place, tile, tmp_path):
    flags = [f"--workdir={place}/run", f"--input={place}/tile.png", f"--output={tmp_path}"]
    assert cli.main(["generate", *flags, "--seed=5", "--num_samples=6", "--batch_size=6"]) == 0
    answer = post(server, tile, seed=5).json()
    assert len(answer["pictures"]) == 6
    for k, uri in enumerate(answer["pictures"]):
        np.testing.assert_array_equal(read(uri), images.decode_image(tmp_path / f"tile_{k}.png"))
    other = post(server, tile, seed=6).json()
    assert not set(answer["pictures"]) & set(other["pictures"])


def test_retrieval_is_that_of_the_command(server, place, tile, capsys):
    query = ["retrieve", "query", f"--index={place}/panoramas.index", str(place / "tile.png")]
    assert cli.main(query) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    printed = [(cells[3], cells[2]) for cells in lines if cells and cells[0] == "tile"]
    found = post(server, tile).json()["found"]
    assert [(item["id"], f"{item['similarity']:.4f}") for item in found] == printed
    assert len(found) == 5 and all(read(item["picture"]).shape == (8, 32, 3) for item in found)


def test_an_index_of_sources_is_asked_with_the_picture(place, model, tile):
    gallery = Gallery(Index.open(place / "tiles.index"), model)
    with serve(make_app(model, gallery, Limits())) as address:
        assert "Where could this be?" in httpx.get(address).text
        answer = post(address, tile, seed=1).json()
    picture = images.to_float(read(answer["pictures"][0]))[None]
    rows = gallery._index.embeddings @ np.asarray(model.embed(picture, "ground"))[0]
    similarities = [item["similarity"] for item in answer["found"]]
    np.testing.assert_allclose(similarities, np.sort(rows)[:-6:-1], atol=1e-5)


def test_without_an_index_the_page_names_the_command(model):
    with serve(make_app(model, None, Limits())) as address:
        assert "retroguide retrieve index" in httpx.get(address).text
        assert httpx.get(f"{address}/example/0").status_code == 404


def test_examples_can_be_posted(server):
    example = httpx.get(f"{server}/example/0")
    assert example.headers["content-type"] == "image/png"
    answer = post(server, example.content).json()
    np.testing.assert_array_equal(
        read(answer["source"]), np.asarray(Image.open(io.BytesIO(example.content)))
    )


def test_odd_images_are_read_as_everywhere(server):
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = 6
    deep = Image.fromarray(rng.integers(0, 2**16, (16, 16), np.uint16))
    half = rgb.copy()
    half.putalpha(Image.new("L", (16, 16), 0))
    half.paste(rgb, (8, 0))
    for encoded in (
        encode(rgb.convert("CMYK"), "JPEG"),
        encode(rgb, "JPEG", exif=exif),
        encode(deep),
        encode(half),
        encode(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)]),
    ):
        wanted = images.decode_image(encoded, (16, 16), formats=images.READABLE_FORMATS)
        np.testing.assert_array_equal(read(post(server, encoded).json()["source"]), wanted)


@pytest.mark.parametrize("encoded", [b"just some text", b"", b"\x89PNG\r\n\x1a\n torn"])
def test_what_is_no_image_gets_a_sentence(server, encoded):
    response = post(server, encoded, name="<b>notes</b>.png")
    assert response.status_code == 400
    assert response.json()["error"].startswith("<b>notes</b>.png: ")


def test_a_decompression_bomb_is_refused(server):
    bomb = encode(Image.new("1", (20000, 20000)))
    assert len(bomb) < 2**20
    response = post(server, bomb)
    assert (response.status_code, "pixels" in response.json()["error"]) == (400, True)


@pytest.mark.parametrize("seed", ["", "-1", "1.5", "2147483648", "٣", "x" * 50])
def test_seeds_out_of_range(server, tile, seed):
    response = post(server, tile, seed)
    assert response.status_code == 400 and "seed" in response.json()["error"]


def test_large_uploads_are_refused_when_they_say_so(server):
    response = post(server, bytes(50 * 2**20))
    assert response.status_code == 413 and "20 MB" in response.json()["error"]


def test_an_endless_upload_is_read_no_further_than_the_limit(model):
    num_read, sent = 0, []
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'

    async def receive():
        nonlocal num_read
        body = bytes(2**16) if num_read else head
        num_read += len(body)
        return {"type": "http.request", "body": body, "more_body": True}

    async def send(message):
        sent.append(message)

    kind = b"multipart/form-data; boundary=x"
    scope = {"type": "http", "method": "POST", "path": "/generate", "query_string": b""}
    scope["headers"] = [(b"host", b"localhost"), (b"content-type", kind)]
    asyncio.run(make_app(model, None, Limits())(scope, receive, send))
    assert sent[0]["status"] == 413
    assert num_read < 20.1 * 2**20


def test_slow_uploads_lose_their_place(model, tile):
    def body():
        yield b"--x\r\n"
        time.sleep(1)

    limits = Limits(num_places=1, upload_seconds=0.2)
    with serve(make_app(model, None, limits)) as address:
        kind = {"content-type": "multipart/form-data; boundary=x"}
        slow = httpx.post(f"{address}/generate", content=body(), headers=kind, timeout=60)
        assert slow.status_code == 408
        assert post(address, tile).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "10.0.0.1"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
    ],
)
def test_foreign_requests_are_refused(server, tile, headers):
    assert post(server, tile, headers=headers).status_code == 403
    assert httpx.get(server, headers=headers).status_code == 403


def test_own_requests_are_not(server, tile):
    assert post(server, tile, headers={"origin": server}).status_code == 200
    assert httpx.get(server, headers={"host": "localhost:9000"}).status_code == 200


def test_every_answer_has_the_headers(server):
    for path, status in (("", 200), ("/page.js", 200), ("/../setup.cfg", 404), ("/generate", 405)):
        response = httpx.get(server + path)
        assert response.status_code == status
        assert response.headers["content-security-policy"].startswith("default-src 'self';")
        assert response.headers["x-content-type-options"] == "nosniff"


def test_a_hundred_at_once(server, tile):
    def ask(seed):
        response = post(server, tile, seed)
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) > 0 and response.json()["error"]
        return response.status_code

    with ThreadPoolExecutor(100) as pool:
        statuses = list(pool.map(ask, range(100)))
    assert set(statuses) <= {200, 503} and 200 in statuses
    assert post(server, tile).status_code == 200


class Stubborn:
    """A model that waits for permission to continue, and fails when its seed's turn comes."""

    def __init__(self, model):
        self._model, self.gate, self.fails = model, threading.Event(), False
        self.gate.set()
        self.num_drawn = 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    def generate(self, source, z):
        assert self.gate.wait(30)
        self.num_drawn += 1
        if self.fails:
            raise RuntimeError("out of memory")
        return self._model.generate(source, z)


def test_full_and_still_responsive_then_left(model, tile):
    stubborn = Stubborn(model)
    with serve(make_app(stubborn, None, Limits(num_places=2))) as address:
        stubborn.gate.clear()
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(post, address, tile)
            time.sleep(0.3)
            with pytest.raises(httpx.ReadTimeout):  # its client leaves before its turn
                files, data = {"image": ("tile.png", tile)}, {"seed": "1"}
                httpx.post(f"{address}/generate", files=files, data=data, timeout=1)
            assert httpx.get(address, timeout=2).status_code == 200
            stubborn.gate.set()
            assert first.result().status_code == 200
        assert stubborn.num_drawn == 2  # warming up, and the first


def test_a_failure_is_reported_and_outlived(model, tile):
    stubborn = Stubborn(model)
    with serve(make_app(stubborn, None, Limits())) as address:
        stubborn.fails = True
        response = post(address, tile)
        assert response.status_code == 500 and "RuntimeError" in response.json()["error"]
        stubborn.fails = False
        assert post(address, tile).status_code == 200
