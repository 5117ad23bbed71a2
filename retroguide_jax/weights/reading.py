"""Reads arrays from weight files and writes safetensors, without executing code of any file."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.files import write_beside
from retroguide_jax.weights import torch_files

CONVERTED = (".safetensors", ".npz")  # suffixes that can be read without PyTorch
_PICKLED = (".pth", ".pt", ".pth.tar", ".ckpt", ".bin", ".tar")
_WRAPPERS = ("module", "_orig_mod")
_STATE_DICT = "name a file of torch.save(model.state_dict())"
_ORIGIN = "source_sha256"


def get_stem(name: str) -> str:
    """The name of a weight file without its suffix; ".pth.tar" is one suffix."""
    return os.path.splitext(name.removesuffix(".tar"))[0]


def read_arrays(path: str | os.PathLike, entry: str = "") -> dict[str, np.ndarray]:
    """Reads the arrays of a .safetensors or .npz file, or of one that torch.save wrote.

    In a training script's checkpoint, the set of arrays is found at whichever key it has. The parts
    of names that wrappers add are dropped: "module" (DataParallel) and "_orig_mod" (torch.compile).
    Arrays that are not floats (num_batches_tracked) are left out.

    Args:
      path: path of the file.
      entry: which set to read if the file holds several (weights and their average, several
        networks); or a prefix of the names to read, up to a dot.

    Returns:
      float32 arrays by name.

    Raises:
      UserError: the file is missing, damaged, of another kind, asks to run code (which is refused),
        holds several sets or none, or holds values that are not finite; or PyTorch is needed and
        missing or older than 2.6.
    """
    path = Path(path)
    kinds = {
        ".safetensors": lambda path: {"": _read_safetensors(path)},
        ".npz": lambda path: {"": _read_npz(path)},
        **dict.fromkeys(_PICKLED, _read_torch),
    }
    read_fn = kinds.get(path.name[len(get_stem(path.name)) :].lower())
    if read_fn is None:
        raise UserError(f"{path}: not a weight file; there can be read {', '.join(kinds)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        found = _choose(path, read_fn(path), entry)
    except UserError:
        raise
    except Exception as error:  # on hostile bytes, parsers raise nearly any exception
        reason, remedy = _describe(path, error)
        raise UserError(f"{path}: {reason}; {remedy}") from None
    if not found:
        raise UserError(f"{path}: holds no arrays of floats; name a file of network weights")
    arrays = {}
    for name, array in found.items():
        plain = _clean_name(name)
        if plain in arrays:
            raise UserError(f"{path}: two of its arrays are called {plain!r}; choose with --entry")
        if not np.all(np.isfinite(array)):
            raise UserError(
                f"{path}: {name!r} is not finite; fetch the file again, or take an earlier "
                "checkpoint of that training"
            )
        arrays[plain] = array
    return arrays


def write_arrays(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], origin: str = "", **metadata: str
) -> None:
    """Writes arrays as .safetensors, atomically: a reader never sees an incomplete file.

    Args:
      path: the file, which must end in ".safetensors". Missing parent folders are made.
      arrays: float arrays by name.
      origin: SHA-256 of the file that they were read from; `read_origin` returns it.
      **metadata: further facts about the arrays; `read_metadata` returns them.

    Raises:
      UserError: `path` has another suffix, or cannot be written.
    """
    from safetensors.numpy import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: name an output that ends in .safetensors")
    # The library ignores strides and writes raw memory. Not `ascontiguousarray`, which turns a
    # scalar into a vector.
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    # The library writes several facts in no certain order: with one, equal arrays are equal files.
    facts = {_ORIGIN: origin, **metadata} if origin else metadata
    with write_beside(path) as beside:
        beside.write_bytes(save(plain, facts))


def read_origin(path: str | os.PathLike) -> str:
    """SHA-256 of the file that a .safetensors was converted from; "" if none is recorded."""
    return read_metadata(path).get(_ORIGIN, "")


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The facts that a .safetensors file records about its arrays; {} if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):  # `read_arrays` reports what is wrong
        return {}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return _keep_floats(load_file(path))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return _keep_floats({name: file[name] for name in file.files})


def _keep_floats(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: array.astype(np.float32, copy=False)
        for name, array in arrays.items()
        if "float" in array.dtype.name  # by name, as NumPy has no kind for bfloat16
    }


def _read_torch(path: Path) -> dict[str, dict[str, np.ndarray]]:
    content = torch_files.load(path)
    try:
        sets = torch_files.find_sets(content)
    except ValueError as error:
        raise UserError(f"{path}: {error}; {_STATE_DICT}") from None
    import torch

    return {
        where: {name: tensor.detach().to(torch.float32).numpy() for name, tensor in part.items()}
        for where, part in sets.items()
    }


def _choose(path: Path, sets: Mapping[str, Mapping[str, Any]], entry: str) -> dict[str, Any]:
    """The arrays of one set, or of those whose names begin with `entry`."""
    if not entry and len(sets) == 1:
        return dict(next(iter(sets.values())))
    flat = {
        f"{where}.{name}".strip("."): array
        for where, part in sets.items()
        for name, array in part.items()
    }
    inner = next(iter(sets.values())) if len(sets) == 1 else {}
    for names in (flat, inner) if entry else ():
        chosen = {
            name.removeprefix(f"{entry}."): array
            for name, array in names.items()
            if name.startswith(f"{entry}.")
        }
        if chosen:
            return chosen
    known = ", ".join(f"{where or 'the file itself'} ({len(part)})" for where, part in sets.items())
    if entry:
        firsts = sorted({name.partition(".")[0] for name in flat})
        raise UserError(
            f"{path}: no arrays under {entry!r}; names begin with {', '.join(firsts[:10])}"
        )
    raise UserError(
        f"{path}: holds several sets of arrays: {known}; choose one with --entry, such as "
        f"--entry={list(sets)[-1]}"
    )


def _describe(path: Path, error: Exception) -> tuple[str, str]:
    """What is wrong with a file, and the remedy."""
    start = path.read_bytes()[:64]
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the weights", "fetch the file itself with git lfs pull"
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page, not weights", "download the file itself"
    text = " ".join(str(error).split())
    if "TorchScript" in text:
        return "a TorchScript program, not arrays", (
            "save what it holds: torch.save(torch.jit.load(FILE).state_dict(), OTHER)"
        )
    is_torch = start.startswith((b"PK", b"\x80"))
    if path.suffix.lower() in (".ckpt", ".bin", ".tar") and not is_torch:
        return "not a file of torch.save", _STATE_DICT
    # PyTorch's own message explains at length how to load the file unsafely.
    reason, remedy = "PyTorch's safe reader refuses it", f"fetch it again, or {_STATE_DICT}"
    if not isinstance(error, pickle.UnpicklingError):
        reason = "".join(filter(str.isprintable, text))[:200] or type(error).__name__
        remedy = "fetch it again from its publisher"
    return f"not a complete file of plain arrays ({reason})", remedy


def _clean_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)
