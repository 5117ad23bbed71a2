"""Weights are found where PyTorch users keep them, and are verified by their names."""

import dataclasses
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from retroguide_jax.errors import UserError
from retroguide_jax.weights import catalog, files, reading

ARRAYS = {"lin0.model.1.weight": np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 64, 1, 1)}
FILE = "lpips_alex.pth"


def write_npz(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        np.savez(file, **ARRAYS)
    return path


@pytest.fixture
def known(tmp_path, monkeypatch):
    """Bytes that the catalog accepts as the heads of LPIPS; an .npz, so that no torch is needed."""
    content = write_npz(tmp_path / "made.npz").read_bytes()
    entry = dataclasses.replace(
        catalog.CATALOG["lpips_alex"],
        file_name="lpips_alex.npz",
        aliases=("alex.npz",),
        packages=(("lpips_stand_in", "weights/v0.1/alex.npz"),),
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )
    monkeypatch.setitem(catalog.CATALOG, "lpips_alex", entry)
    monkeypatch.setattr(reading, "CONVERTED", (".safetensors",))
    return content


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_catalog_is_sound():
    for name, weights in catalog.CATALOG.items():
        assert weights.name == name and weights.url.startswith("http") and weights.licence
        stem = reading.get_stem(weights.url.rsplit("/", 1)[1])
        # torchvision's and pytorch-fid's names end in the digest's first eight digits.
        if name in ("inception", "alexnet", "vgg16", "squeezenet"):
            assert weights.sha256[:8] == stem.rsplit("-", 1)[1]
        assert len(weights.sha256) == (0 if name == "places_alexnet" else 64)
    names = [
        name
        for weights in catalog.CATALOG.values()
        for name in {
            weights.name,
            reading.get_stem(weights.file_name),
            *map(reading.get_stem, weights.aliases),
        }
    ]
    assert len(names) == len(set(names))  # no file can be accepted as two kinds of weights
    with pytest.raises(UserError, match="did you mean vgg16"):
        catalog.get_weights("vgg_16")
    with pytest.raises(UserError, match="there are inception, "):
        catalog.get_weights("")


def test_places_are_searched_in_order(known, tmp_path, monkeypatch, cache):
    site = tmp_path / "site"
    put(site / "lpips_stand_in" / "__init__.py", b"raise SystemExit('imported')")
    monkeypatch.syspath_prepend(site)
    places = [
        put(cache / "lpips_alex.npz", known),
        put(site / "lpips_stand_in" / "weights" / "v0.1" / "alex.npz", known),
        put(cache.parent / "torch" / "hub" / "checkpoints" / "alex.npz", known),
        put(tmp_path / "named" / "alex.npz", known),
        put(tmp_path / "extra" / "lpips_alex.npz", known),
    ]
    monkeypatch.setenv("RETROGUIDE_WEIGHTS", str(tmp_path / "named"))
    extra = tmp_path / "extra"
    assert files.find("lpips_alex", extra) == places.pop()
    places_left = list(reversed(places))
    for expected in places_left:
        assert files.find("lpips_alex") == expected
        expected.unlink()
    assert files.find("lpips_alex") is None


def test_torch_home_is_obeyed(known, tmp_path, monkeypatch):
    path = put(tmp_path / "torch_home" / "hub" / "checkpoints" / "alex.npz", known)
    assert files.find("lpips_alex") is None
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    assert files.find("lpips_alex") == path


def test_a_file_may_be_named_itself(known, tmp_path):
    path = put(tmp_path / "anything.bin", known)  # recognised by its size
    assert files.find("lpips_alex", path) == path
    other = put(tmp_path / "notes.txt", b"notes")
    assert files.find("lpips_alex", other) is None
    with pytest.raises(files.MissingWeightsError, match=r"notes.txt \(.*5 bytes, not "):
        files.load("lpips_alex", other)
    for text in (tmp_path / "gone", tmp_path / "gone.npz"):
        with pytest.raises(UserError, match="no such file or folder"):
            files.find("lpips_alex", text)


def test_a_stale_variable_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("RETROGUIDE_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"\$RETROGUIDE_WEIGHTS=.*no such file or folder"):
        files.find("vgg16")


@pytest.mark.parametrize("name", catalog.CATALOG)
def test_missing_weights_say_what_where_and_how(name, tmp_path, cache):
    with pytest.raises(files.MissingWeightsError) as caught:
        files.load(name, tmp_path)
    text = str(caught.value)
    assert caught.value.name == name and "\n" not in text
    for part in (
        catalog.CATALOG[name].file_name,
        str(tmp_path),
        str(cache),
        os.path.join("torch", "hub", "checkpoints"),
        f"retroguide weights fetch {name}`",
    ):
        assert part in text


def test_the_published_file_is_verified(known, cache):
    path = put(cache / "lpips_alex.npz", known)
    loaded = files.load("lpips_alex")
    digest = hashlib.sha256(known).hexdigest()
    assert loaded.path == path and loaded.is_verified
    assert loaded.sha256 == loaded.origin == digest == files.compute_sha256(path)
    np.testing.assert_array_equal(loaded.arrays["lin0.model.1.weight"], [*ARRAYS.values()][0])


def test_another_file_of_that_name_is_not_used(known, cache):
    """A truncated file is passed over for a complete one elsewhere; a changed one is an error."""
    path = put(cache.parent / "torch" / "hub" / "checkpoints" / "alex.npz", known[:-1])
    with pytest.raises(files.MissingWeightsError, match=f"bytes, not {len(known)}"):
        files.load("lpips_alex")
    whole = put(cache / "lpips_alex.npz", known)
    assert files.load("lpips_alex").path == whole
    put(path, known[:-1] + bytes([known[-1] ^ 1]))
    with pytest.raises(UserError, match="is not the published file: it has sha256"):
        files.load("lpips_alex")


@pytest.mark.parametrize("stem", ["alexnet_places365", "places_alexnet"])
def test_a_converted_file_is_found_by_either_stem(cache, stem):
    cache.mkdir(parents=True)
    path = cache / f"{stem}.safetensors"
    save_file(ARRAYS, path)
    loaded = files.load("places_alexnet")
    assert loaded.path == path and not loaded.is_verified
    assert loaded.origin == loaded.sha256 == files.compute_sha256(path)


def test_a_converted_file_keeps_its_origin(cache):
    """Scores computed with it and with the published file record the same weights."""
    published = catalog.CATALOG["inception"].sha256
    path = cache / "inception.safetensors"
    reading.write_arrays(path, ARRAYS, published)
    loaded = files.load("inception")
    assert loaded.is_verified and loaded.origin == published
    assert loaded.sha256 == files.compute_sha256(path) != published
    reading.write_arrays(path, ARRAYS, "0" * 64)
    with pytest.raises(UserError, match="was converted from a file with sha256 0000"):
        files.load("inception")


def test_the_real_heads_of_lpips():
    """The files of the installed package have the catalog's digest, where it is installed."""
    for net in ("alex", "vgg", "squeeze"):
        path = files.find(f"lpips_{net}")
        if path is None:
            pytest.skip("neither lpips nor torchmetrics is installed")
        weights = catalog.CATALOG[f"lpips_{net}"]
        assert files.compute_sha256(path) == weights.sha256
        assert path.stat().st_size == weights.size


def test_the_command(run_command, tmp_path, cache):
    source = write_npz(cache / "places_alexnet.npz")
    listed = run_command("weights", "list")
    assert listed.returncode == 0, listed.stderr
    assert f"places_alexnet  {source}" in listed.stdout
    assert "95,628,359 bytes; Apache-2.0" in listed.stdout and "checksum not known" in listed.stdout
    output = tmp_path / "new" / "out.safetensors"
    for name in ("places_alexnet", source):
        done = run_command("weights", "convert", name, f"--output={output}")
        assert done.returncode == 0, done.stderr
        assert "1 arrays, 64 floats" in done.stdout
        assert reading.read_origin(output) == files.compute_sha256(source)
        output.unlink()
    for arguments, message in (
        (["convert", "inception", f"--output={output}"], "retroguide weights fetch inception"),
        (["convert", tmp_path / "no.npz", f"--output={output}"], "no such file"),
        (["convert", source, "--output=out.npz"], "ends in .safetensors"),
        (["list", f"--weights={tmp_path / 'gone'}"], "no such file or folder"),
    ):
        ended = run_command("weights", *arguments)
        assert ended.returncode == 1 and ended.stderr.count("\n") == 1, ended.stderr
        assert message in ended.stderr


def test_nothing_heavy_is_imported():
    program = (
        "import sys\nfrom retroguide_jax.weights import catalog, fetch, files\n"
        "files.find('lpips_alex')\n"
        "print([n for n in ('torch', 'lpips', 'torchmetrics', 'jax') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
