"""Arrays out of weight files and into safetensors, without executing anything that a file says."""

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.files import write_beside

CONVERTED = (".safetensors", ".npz")  # what can be read without PyTorch
_PICKLED = (".pth", ".pt", ".pth.tar")
_ORIGIN = "source_sha256"
# Older ones can be made to execute code even by torch.load(weights_only=True): CVE-2025-32434.
_SAFE_TORCH = (2, 6)


def get_stem(name: str) -> str:
    """The name of a weight file without its suffix, of which ".pth.tar" is one."""
    return os.path.splitext(name.removesuffix(".tar"))[0]


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a .safetensors, .npz, .pth, .pt or .pth.tar file.

    A dict that is stored under "state_dict" or "model" is taken out, and the part "module" that
    DataParallel puts into names is dropped. Arrays that are not floats (num_batches_tracked) are
    left out.

    Returns:
      float32 arrays by name.

    Raises:
      UserError: the file is missing, damaged, of another kind, holds more than plain arrays (which
        is refused, not executed), or values that are not finite; or PyTorch is needed and missing
        or older than 2.6.
    """
    path = Path(path)
    kinds = {
        ".safetensors": _read_safetensors,
        ".npz": _read_npz,
        **dict.fromkeys(_PICKLED, _read_torch),
    }
    read_fn = kinds.get(path.name[len(get_stem(path.name)) :].lower())
    if read_fn is None:
        raise UserError(f"{path}: not a weight file; there can be read {', '.join(kinds)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        found = read_fn(path)
    except UserError:
        raise
    except Exception as error:  # parsers of hostile bytes raise nearly anything
        reason = _describe(error)
        raise UserError(
            f"{path}: not a complete file of plain arrays ({reason}); fetch it again from its "
            "publisher"
        ) from None
    arrays = {_clean_name(name): array for name, array in found.items()}
    if not arrays:
        raise UserError(f"{path}: holds no arrays of floats; name a file of network weights")
    for name, array in arrays.items():
        if not np.all(np.isfinite(array)):
            raise UserError(f"{path}: {name!r} is not finite; fetch the file again")
    return arrays


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], origin: str) -> None:
    """Writes arrays as .safetensors; a reader never sees half a file.

    Args:
      path: the file, which must end in ".safetensors". Missing parent folders are made.
      arrays: float32 arrays by name.
      origin: sha256 of the file that they were read from; `read_origin` gives it back.

    Raises:
      UserError: `path` has another suffix, or cannot be written.
    """
    from safetensors.numpy import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: name an output that ends in .safetensors")
    # The library writes the memory as it lies, whatever the strides. Not `ascontiguousarray`, which
    # makes a vector of a scalar.
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with write_beside(path) as beside:
        beside.write_bytes(save(plain, {_ORIGIN: origin}))


def read_origin(path: str | os.PathLike) -> str:
    """sha256 of the file that a .safetensors was converted from; "" where none is noted."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return (file.metadata() or {}).get(_ORIGIN, "")
    except (SafetensorError, OSError):  # what is wrong is told by `read_arrays`
        return ""


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
        if "float" in array.dtype.name  # bfloat16 is of no kind that NumPy knows
    }


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading it needs PyTorch: pip install 'retroguide_jax[torch]', or convert it "
            f"on a machine with PyTorch: retroguide weights convert {path.name} "
            f"--output={get_stem(path.name)}.safetensors"
        ) from None
    version = torch.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < _SAFE_TORCH:
        raise UserError(
            f"{path}: PyTorch {version} is not safe with files of strangers; "
            "pip install 'torch>=2.6'"
        )
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not arrays by name")
    return {
        str(name): tensor.detach().to(torch.float32).numpy()
        for name, tensor in content.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    # PyTorch explains at length how to load the file all the same.
    refused = re.search(r"GLOBAL ([\w.]+)", text)
    if refused:
        return f"it asks for {refused[1]}, which could run code"
    if isinstance(error, pickle.UnpicklingError):
        return "PyTorch's safe reader refuses it"
    return "".join(filter(str.isprintable, text))[:200] or type(error).__name__


def _clean_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "module")
