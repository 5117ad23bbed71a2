"""Weight files of every kind are read alike; hostile ones are refused and never executed."""

import argparse
import collections
import datetime
import io
import pathlib
import pickle
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from retroguide_jax.errors import UserError
from retroguide_jax.weights import reading

WEIGHT = np.random.default_rng(0).standard_normal((4, 3, 2, 2)).astype(np.float32)
BIAS = np.arange(4, dtype=np.float16)


def save_torch(path, content, **options):
    torch = pytest.importorskip("torch")

    def convert(value):
        if isinstance(value, dict):
            return {name: convert(item) for name, item in value.items()}
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    torch.save(convert(content), path, **options)


def check_arrays(found):
    assert set(found) == {"features.0.weight", "features.0.bias"}
    assert all(array.dtype == np.float32 for array in found.values())
    np.testing.assert_array_equal(found["features.0.weight"], WEIGHT)
    np.testing.assert_array_equal(found["features.0.bias"], BIAS.astype(np.float32))


PLAIN = {
    "features.0.weight": WEIGHT,
    "features.0.bias": BIAS,
    "features.1.num_batches_tracked": np.array(3),
}


def test_without_torch(tmp_path):
    save_file(PLAIN, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **PLAIN)
    for name in ("a.safetensors", "a.npz"):
        check_arrays(reading.read_arrays(tmp_path / name))


@pytest.mark.parametrize(
    "name", ["a.pth", "a.pt", "a.pth.tar", "a.ckpt", "a.bin", "a.tar", "a.CKPT"]
)
@pytest.mark.parametrize("is_zip", [True, False])
def test_with_torch(tmp_path, name, is_zip):
    save_torch(tmp_path / name, PLAIN, _use_new_zipfile_serialization=is_zip)
    check_arrays(reading.read_arrays(tmp_path / name))


def test_a_training_checkpoint_is_unpacked(tmp_path):
    """As Places365 stores AlexNet: nested, from a DataParallel, beside what is no array."""
    parallel = {
        "features.module.0.weight": WEIGHT,
        "module.features.0.bias": BIAS,
        "features.module.1.num_batches_tracked": np.array(3),
    }
    content = {"epoch": 90, "arch": "alexnet", "best_prec1": 55.5, "state_dict": parallel}
    save_torch(tmp_path / "a.pth.tar", content, _use_new_zipfile_serialization=False)
    check_arrays(reading.read_arrays(tmp_path / "a.pth.tar"))


class Settings(dict):
    """A dictionary that holds a class of the training script."""


class Steps(list):
    """A list that holds such a class."""


class Tracker:
    """An object with slots, which pickle stores in another way than one without."""

    __slots__ = ("best",)


def make_tracker():
    tracker = Tracker()
    tracker.best = np.float32(3)
    return tracker


BESIDE = {
    "arguments": lambda: argparse.Namespace(lr=1e-4, path=pathlib.PosixPath("runs")),
    "a score": lambda: np.float64(91.2),
    "an array of NumPy": lambda: np.arange(3.0),
    "a date": lambda: datetime.datetime(2026, 1, 2),
    "a default dictionary": lambda: collections.defaultdict(list, loss=[1.0]),
    "its own dictionary": lambda: Settings(lr=1, deep=Settings(steps=2)),
    "its own list": lambda: {"config": Settings(steps=Steps([1, Steps([2])]))},
    "its own object": make_tracker,
    "a class": lambda: Tracker,
}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("kind", BESIDE)
def test_what_training_scripts_store_beside_the_arrays(tmp_path, kind, is_zip):
    content = {"state_dict": PLAIN, "epoch": 3, "more": {"kind": [1]}}
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array) for name, array in PLAIN.items()}
    torch.save(
        content | {"state_dict": state, "more": BESIDE[kind]()},
        tmp_path / "a.pth",
        _use_new_zipfile_serialization=is_zip,
    )
    check_arrays(reading.read_arrays(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda plain: {"model_state_dict": plain, "optimizer_state_dict": {}, "epoch": 3},
        lambda plain: {"net": plain, "optimizer": {"state": {0: {"exp_avg": WEIGHT}}}},
        lambda plain: {"params": plain, "best": np.array(0.5)},
        lambda plain: {"model": {"state_dict": plain}, "scheduler": {"last": np.array(0.1)}},
        lambda plain: {f"_orig_mod.{name}": array for name, array in plain.items()},
        lambda plain: {f"module._orig_mod.{name}": array for name, array in plain.items()},
        lambda plain: Settings(state_dict=Settings(plain)),
    ],
)
def test_every_wrapping_of_training_scripts_is_taken_off(tmp_path, wrap):
    save_torch(tmp_path / "a.pth", wrap(PLAIN))
    check_arrays(reading.read_arrays(tmp_path / "a.pth"))


def test_of_several_sets_one_is_chosen(tmp_path):
    """An average beside the weights is neither taken nor ignored silently."""
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array) for name, array in PLAIN.items()}
    other = {name: value + 1 for name, value in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": other}, tmp_path / "a.pth")
    torch.save({"G": state, "D": other, "epoch": 1}, tmp_path / "b.pth")
    flat = {f"model.{name}": value for name, value in state.items()}
    flat |= {f"ema_model.{name}": value for name, value in other.items()}
    torch.save({"state_dict": flat}, tmp_path / "c.ckpt")
    for name, entries in (("a.pth", ("state_dict", "state_dict_ema")), ("b.pth", ("G", "D"))):
        with pytest.raises(UserError, match=f"several sets .*{entries[0]}.*{entries[1]}.*--entry"):
            reading.read_arrays(tmp_path / name)
        check_arrays(reading.read_arrays(tmp_path / name, entries[0]))
        found = reading.read_arrays(tmp_path / name, entries[1])
        np.testing.assert_array_equal(found["features.0.weight"], WEIGHT + 1)
    check_arrays(reading.read_arrays(tmp_path / "c.ckpt", "model"))
    check_arrays(reading.read_arrays(tmp_path / "c.ckpt", "state_dict.model"))
    assert len(reading.read_arrays(tmp_path / "c.ckpt")) == 4
    with pytest.raises(UserError, match="no arrays under 'ema'; names begin with state_dict"):
        reading.read_arrays(tmp_path / "c.ckpt", "ema")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS.*git lfs pull"),
        ("a.ckpt", b"<!DOCTYPE html><html>", "a web page"),
        ("a.bin", b"\0" * 100, "not a file of torch.save; name a file of"),
    ],
)
def test_what_was_downloaded_in_place_of_weights(tmp_path, name, content, message):
    pytest.importorskip("torch")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        reading.read_arrays(tmp_path / name)


def test_a_program_is_reported_from_weights(tmp_path):
    torch = pytest.importorskip("torch")
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a TorchScript program, .*torch.jit.load"):
        reading.read_arrays(tmp_path / "a.pt")


def test_strings_of_python_2_are_names(tmp_path):
    """Places365's files were written by Python 2, whose strings pickle stores in another way."""

    class OldPickler(pickle._Pickler):
        dispatch = pickle._Pickler.dispatch | {
            str: lambda self, text: self.write(b"U" + bytes([len(text)]) + text.encode())
        }

    old = types.SimpleNamespace(__name__="old", Pickler=OldPickler, dump=pickle.dump)
    path = tmp_path / "a.pth.tar"
    content = {"arch": "alexnet", "state_dict": PLAIN}
    save_torch(path, content, pickle_module=old, _use_new_zipfile_serialization=False)
    assert b"U\x07alexnet" in path.read_bytes()
    check_arrays(reading.read_arrays(path))


def test_bfloat16_is_a_float(tmp_path):
    save_file({"a": np.full(3, 1.5, ml_dtypes.bfloat16)}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(
        reading.read_arrays(tmp_path / "a.safetensors")["a"], np.full(3, 1.5, np.float32)
    )


class Hostile:
    """Makes a file as a side effect of being unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def write_hostile_npz(path, trap):
    np.savez(path, a=np.array([Hostile(trap)], object))


def write_hostile_pickle(path, trap):
    pytest.importorskip("torch")
    path.write_bytes(pickle.dumps({"a": Hostile(trap)}, protocol=2))


def write_hostile_torch(path, trap, is_zip):
    save_torch(path, {"a": WEIGHT, "b": Hostile(trap)}, _use_new_zipfile_serialization=is_zip)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.npz", write_hostile_npz),
        ("a.pth", write_hostile_pickle),
        ("a.pth", lambda path, trap: write_hostile_torch(path, trap, True)),
        ("a.pth.tar", lambda path, trap: write_hostile_torch(path, trap, False)),
    ],
)
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, name, write):
    trap = tmp_path / "trap"
    write(tmp_path / name, trap)
    if name.endswith("npz"):  # the trap works: it is the safe reader that does not trigger it
        with np.load(tmp_path / name, allow_pickle=True) as file:
            assert file["a"] is not None
    elif write is write_hostile_pickle:
        pickle.loads((tmp_path / name).read_bytes())
    else:
        pytest.importorskip("torch").load(tmp_path / name, weights_only=False)
    assert trap.exists()
    trap.unlink()
    with pytest.raises(
        UserError, match="which could run code|allow_pickle=False|safe reader"
    ) as caught:
        reading.read_arrays(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not trap.exists()


def test_whole_objects_and_nothing_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    for content, message in (
        ([torch.zeros(3)], "holds a list"),
        ({"a": 1}, "no arrays of floats"),
        ({"a": torch.tensor([1.0, float("nan")])}, "'a' is not finite"),
        (torch.nn.Linear(2, 2), r"holds a whole object \(torch.nn.modules.linear.Linear\)"),
        ({"model": torch.nn.Linear(2, 2), "epoch": 3}, r"a whole object \(torch.nn.*state_dict"),
    ):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(UserError, match=message):
            reading.read_arrays(tmp_path / "a.pth")


def test_what_is_no_weight_file_is_reported(tmp_path):
    for name, message in (
        ("a.onnx", "not a weight file; there can be read .safetensors"),
        ("a", "not a weight file"),
        ("gone.npz", "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            reading.read_arrays(tmp_path / name)
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(UserError, match="no such file"):
        reading.read_arrays(tmp_path / "a.npz")


def test_an_array_that_claims_to_be_enormous_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**48,)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("a.npy", header.getvalue())
    with pytest.raises(UserError, match="not a complete file"):
        reading.read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_damaged_bytes_raise_nothing_but_a_user_error(tmp_path, suffix, data):
    path = tmp_path / f"a{suffix}"
    if suffix == ".pth":
        save_torch(path, PLAIN)
    else:
        reading.write_arrays(tmp_path / "a.safetensors", {"a": WEIGHT}, "")
        np.savez(tmp_path / "a.npz", a=WEIGHT)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        arrays = reading.read_arrays(path)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert all(np.all(np.isfinite(array)) for array in arrays.values())


def test_an_old_torch_is_not_trusted(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    save_torch(tmp_path / "a.pth", PLAIN)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(UserError, match=r"PyTorch 2.5.1\+cpu is not safe"):
        reading.read_arrays(tmp_path / "a.pth")


def test_without_torch_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)  # makes `import torch` fail
    (tmp_path / "a.pth").write_bytes(b"anything")
    with pytest.raises(UserError, match=r"retroguide_jax\[torch\].* weights convert a.pth "):
        reading.read_arrays(tmp_path / "a.pth")


def test_written_arrays_are_read_back(tmp_path):
    path = tmp_path / "deep" / "a.safetensors"
    transposed = WEIGHT.transpose(3, 1, 0, 2)
    reading.write_arrays(path, {"a": transposed}, "f" * 64)
    np.testing.assert_array_equal(reading.read_arrays(path)["a"], transposed)
    assert reading.read_origin(path) == "f" * 64
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]
    with pytest.raises(UserError, match="ends in .safetensors"):
        reading.write_arrays(tmp_path / "a.npz", {"a": WEIGHT}, "")
    with pytest.raises(UserError, match="cannot write"):
        reading.write_arrays(path / "below.safetensors", {"a": WEIGHT}, "")
