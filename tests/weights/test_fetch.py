"""Downloads from a server on this machine: complete and verified, or not at all."""

import dataclasses
import fcntl
import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest
from file_server import serve

from retroguide_jax.errors import UserError
from retroguide_jax.weights import catalog, download, fetch, files

BODY = np.random.default_rng(0).bytes(3 * 2**20 + 17)
NAME, PATH = "squeezenet", "/squeezenet1_1-b8a52dc0.pth"
PLACES, PLACES_PATH = "places_alexnet", "/alexnet_places365.pth.tar"


@pytest.fixture
def server(monkeypatch):
    """Serves bytes that the catalog accepts as SqueezeNet's, and others as those of Places365."""
    entry = dataclasses.replace(
        catalog.CATALOG[NAME], sha256=hashlib.sha256(BODY).hexdigest(), size=len(BODY)
    )
    monkeypatch.setitem(catalog.CATALOG, NAME, entry)
    monkeypatch.setattr(download, "_PAUSES", (0.01, 0.01, 0.01))
    with serve({PATH: BODY, PLACES_PATH: BODY[:1000]}) as files_server:
        yield files_server


def get_part(cache):
    return cache / f"{PATH[1:]}.part"


def test_a_file_is_fetched_once(server, cache):
    path = fetch.fetch(NAME, mirror=server.address + "/")
    assert path == cache / PATH[1:] and path.read_bytes() == BODY
    assert files.find(NAME) == path
    assert fetch.fetch(NAME, mirror=server.address) == path
    assert server.requests == [(PATH, None)]
    assert [file.name for file in cache.iterdir()] == [PATH[1:]]


def test_a_download_resumes_where_it_was_cut_off(server):
    server.cut_after = [2**20 + 5, 2**20]
    assert fetch.fetch(NAME, mirror=server.address).read_bytes() == BODY
    starts = [None, f"bytes={2**20 + 5}-", f"bytes={2**21 + 5}-"]
    assert server.requests == [(PATH, start) for start in starts]


def test_a_later_call_resumes_too(server, cache):
    cache.mkdir(parents=True)
    get_part(cache).write_bytes(BODY[:1234])
    assert fetch.fetch(NAME, mirror=server.address).read_bytes() == BODY
    assert server.requests == [(PATH, "bytes=1234-")]
    assert not get_part(cache).exists()


def test_a_server_that_cannot_resume_starts_again(server, cache):
    server.can_range = False
    server.cut_after = [2**20]
    assert fetch.fetch(NAME, mirror=server.address).read_bytes() == BODY
    assert server.requests == [(PATH, None), (PATH, f"bytes={2**20}-")]


@pytest.mark.parametrize("part", [BODY, BODY + b"more", b"x" * 1234, b"x" * len(BODY)])
def test_a_part_that_is_whole_too_long_or_of_another_file(server, cache, part):
    cache.mkdir(parents=True)
    get_part(cache).write_bytes(part)
    assert fetch.fetch(NAME, mirror=server.address).read_bytes() == BODY
    assert not get_part(cache).exists()
    assert bool(server.requests) == (part != BODY)


def test_a_file_that_changes_on_the_server_is_not_mixed(server, cache):
    """With no known digest only the server's validator says whether the file has changed."""
    server.cut_after = [400]
    new = b"y" * 1000
    pause = time.sleep

    def change(seconds):
        server.contents[PLACES_PATH] = new
        pause(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", change)
        assert fetch.fetch(PLACES, mirror=server.address).read_bytes() == new
    assert server.requests[-1] == (PLACES_PATH, "bytes=400-")


def test_a_part_without_known_digest_is_not_trusted(server, cache):
    cache.mkdir(parents=True)
    (cache / f"{PLACES_PATH[1:]}.part").write_bytes(b"x" * 400)
    assert fetch.fetch(PLACES, mirror=server.address).read_bytes() == BODY[:1000]
    assert server.requests == [(PLACES_PATH, None)]


def test_statuses_that_pass_are_waited_for(server):
    server.statuses = [503, 429]
    assert fetch.fetch(NAME, mirror=server.address).read_bytes() == BODY


@pytest.mark.parametrize("claims_length", [True, False])
def test_a_wrong_file_is_not_kept(server, cache, claims_length):
    server.claims_length = claims_length
    server.contents[PATH] = BODY[:-1] + bytes([BODY[-1] ^ 1])
    with pytest.raises(UserError, match="has sha256 .* it was not kept"):
        fetch.fetch(NAME, mirror=server.address)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("claims_length", "message"), [(True, "offers 4,000,000 bytes"), (False, "is longer than")]
)
def test_a_file_of_another_size_is_refused_before_it_fills_the_disk(
    server, cache, claims_length, message
):
    server.claims_length = claims_length
    server.contents[PATH] = b"<html>" + b" " * (4_000_000 - 6)
    with pytest.raises(UserError, match=message):
        fetch.fetch(NAME, mirror=server.address)
    assert list(cache.iterdir()) == []


def test_what_cannot_be_reached_is_reported_in_one_line(server, cache):
    for url, message in (
        (f"{server.address}/gone", "answers 404"),
        ("http://127.0.0.1:9/x", "cannot be reached"),
        ("http://no-such-host.invalid/x", "cannot be reached"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            fetch.fetch(NAME, url=url)
        assert "\n" not in str(caught.value) and "--weights" in str(caught.value)
        assert list(cache.iterdir()) == []
    server.statuses = [500] * 9
    with pytest.raises(UserError, match="answers 500"):
        fetch.fetch(NAME, mirror=server.address)
    assert len(server.statuses) == 5  # four tries


def test_only_the_web_is_an_address(server, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(BODY)
    for url in (
        f"file://{secret}",
        "ftp://127.0.0.1/x",
        "data:,x",
        str(secret),
        "http://",
        "http://[",
    ):
        with pytest.raises(UserError, match="not an http:// or https:// address"):
            fetch.fetch(NAME, url=url)
    for target in (f"file://{secret}", "ftp://127.0.0.1/x", "data:,x"):
        server.redirects["/moved"] = target
        with pytest.raises(UserError):
            fetch.fetch(NAME, url=f"{server.address}/moved")
    server.redirects["/moved"] = PATH
    assert fetch.fetch(NAME, url=f"{server.address}/moved").read_bytes() == BODY


def test_the_first_copy_is_trusted_and_later_ones_must_be_the_same(server, cache):
    path = fetch.fetch(PLACES, mirror=server.address)
    record = cache / f"{path.name}.sha256"
    digest = hashlib.sha256(BODY[:1000]).hexdigest()
    assert record.read_text() == f"{digest}  {path.name}\n"
    path.unlink()
    server.contents[PLACES_PATH] = b"z" * 1000
    with pytest.raises(UserError, match=f"has {digest}"):
        fetch.fetch(PLACES, mirror=server.address)
    assert not path.exists() and record.exists()
    path.write_bytes(b"z" * 1000)
    with pytest.raises(UserError, match="remove it"):
        fetch.fetch(PLACES, mirror=server.address)
    with pytest.raises(UserError, match="not the published file"):
        files.load(PLACES)


def test_a_spoilt_file_in_the_cache_is_named(server, cache):
    path = fetch.fetch(NAME, mirror=server.address)
    path.write_bytes(BODY[::-1])
    with pytest.raises(UserError, match="is there but has sha256"):
        fetch.fetch(NAME, mirror=server.address)
    assert path.read_bytes() == BODY[::-1]


def test_two_processes_do_not_write_one_file(server, cache):
    cache.mkdir(parents=True)
    with open(get_part(cache), "wb") as held:
        held.write(BODY[:10])
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is fetching it"):
            fetch.fetch(NAME, mirror=server.address)
    assert fetch.fetch(NAME, mirror=server.address).read_bytes() == BODY


def test_a_full_disk_and_a_forbidden_place_are_reported(server, cache, monkeypatch):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot write"):
        fetch.fetch(NAME, mirror=server.address)
    cache.unlink()
    cache.mkdir()
    # /dev/full takes no bytes, like a full disk.
    with open("/dev/full", "wb", buffering=0) as full:
        broken = download.Download(NAME, server.address + PATH, _Sink(full), len(BODY), "")
        with pytest.raises(UserError, match="No space left"):
            broken.run()


class _Sink:
    """An empty file that writes to a device, which cannot be truncated to a length."""

    name = "weights.part"

    def __init__(self, file):
        self.write = file.write

    def truncate(self, size):
        pass


def test_the_command(server, run_command, cache):
    """With the published digest the command downloads, and refuses what the server has."""
    refused = run_command("weights", "fetch", NAME, f"--mirror={server.address}")
    assert refused.returncode == 1 and "offers 3,145,745 bytes" in refused.stderr
    fetched = run_command("weights", "fetch", PLACES, f"--mirror={server.address}")
    assert fetched.returncode == 0, fetched.stderr
    assert hashlib.sha256(BODY[:1000]).hexdigest() in fetched.stdout
    assert "names none to compare it with" in fetched.stdout and "CC BY" in fetched.stdout
    two = run_command("weights", "fetch", NAME, PLACES, f"--url={server.address}/x")
    assert two.returncode == 1 and "one NAME" in two.stderr
    unknown = run_command("weights", "fetch", "inceptoin")
    assert unknown.returncode == 1 and "did you mean inception?" in unknown.stderr


def test_a_killed_download_resumes(server, cache):
    """Whenever it is killed, the file on disk is a beginning of the whole file."""
    program = (
        "import sys, os\n"
        "from retroguide_jax.weights import download\n"
        "write = download.Download._write\n"
        "def die(self, chunk): write(self, chunk); os._exit(9)\n"
        "download.Download._write = die\n"
        "file = open(sys.argv[2], 'ab+', buffering=0)\n"
        "download.Download('x', sys.argv[1], file, None, '0' * 64).run()\n"
    )
    cache.mkdir(parents=True)
    arguments = [sys.executable, "-c", program, server.address + PATH, str(get_part(cache))]
    assert subprocess.run(arguments).returncode == 9
    length = get_part(cache).stat().st_size
    assert 0 < length < len(BODY) and BODY.startswith(get_part(cache).read_bytes())
    assert fetch.fetch(NAME, mirror=server.address).read_bytes() == BODY
    assert server.requests[-1] == (PATH, f"bytes={length}-")
