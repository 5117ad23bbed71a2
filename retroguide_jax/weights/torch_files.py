"""Reads files of torch.save with PyTorch's safe reader: nothing that a file names is executed.

Training scripts store more than arrays: arguments, scores, paths, configs. Every object of a
foreign class is replaced by one that does nothing, so that the arrays beside it can be read.
"""

import re
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retroguide_jax.errors import UserError

# In older versions, even torch.load(weights_only=True) can execute code: CVE-2025-32434.
_SAFE_TORCH = (2, 6)
# Standard library modules whose objects are plain values; names in its other modules may run code.
_VALUES = ("argparse", "collections", "pathlib", "datetime", "decimal", "enum", "types", "uuid")
_BUILTINS = ("dict", "list", "tuple", "set", "frozenset", "int", "float", "str", "bool", "bytes",
             "complex", "object", "range", "slice")  # fmt: skip
_MOST_CLASSES = 200  # in one file; finding each takes one more attempt to load it


class StandIn:
    """Replaces an object of any class, and does nothing."""

    def __init__(self, *args, **kwargs):
        del args, kwargs

    def __setstate__(self, state):
        del state


class _DictStandIn:
    """Replaces a class of dictionaries, and keeps the items."""

    def __new__(cls, *args, **kwargs):
        del cls, args, kwargs
        return OrderedDict()


class _ListStandIn:
    """Replaces a class of lists, and keeps the items."""

    def __new__(cls, *args, **kwargs):
        del cls, args, kwargs
        return []


# By PyTorch's message when items are added to a stand-in: the class that can hold them.
_CONTAINERS = {
    r"SETITEMS? for dict.*StandIn:([\w.]+)": _DictStandIn,
    r"(?:append to|extend) lists.*StandIn:([\w.]+)": _ListStandIn,
}


def load(path: Path) -> Any:
    """Reads a file of torch.save; objects of foreign classes are `StandIn`s.

    Raises:
      UserError: PyTorch is missing or older than 2.6, or the file asks to run code.
      Exception: whatever PyTorch raises on a damaged file.
    """
    try:
        import torch
    except ImportError:
        stem = path.name.removesuffix(".tar").rpartition(".")[0]
        raise UserError(
            f"{path}: reading it needs PyTorch: pip install 'retroguide_jax[torch]', or convert it "
            f"on a machine with PyTorch: retroguide weights convert {path.name} "
            f"--output={stem}.safetensors"
        ) from None
    version = torch.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < _SAFE_TORCH:
        raise UserError(
            f"{path}: PyTorch {version} is not safe with files of strangers; "
            "pip install 'torch>=2.6'"
        )
    known: dict[str, type] = {}
    for _ in range(_MOST_CLASSES):
        try:
            with torch.serialization.safe_globals([(cls, name) for name, cls in known.items()]):
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            if not _add_class(known, path, str(error)):
                raise
    raise UserError(f"{path}: holds objects of more than {_MOST_CLASSES} classes; save arrays only")


def _add_class(known: dict[str, type], path: Path, message: str) -> bool:
    """Adds a stand-in for the class that PyTorch's message names; returns whether it did."""
    for pattern, container in _CONTAINERS.items():
        used = re.search(pattern, message)
        if used and known.get(used[1]) is not container:
            known[used[1]] = container
            return True
    asked = re.search(r"GLOBAL ([\w.]+)", message)
    # PyTorch names builtins without their module.
    if not asked:
        return False
    name = asked[1] if "." in asked[1] else f"builtins.{asked[1]}"
    if name in known:
        return False
    if not _is_value(name):
        raise UserError(
            f"{path}: asks for {name}, which could run code, and is not read; ask for a file of "
            "torch.save(model.state_dict())"
        )
    known[name] = type(f"StandIn:{name}", (StandIn,), {})
    return True


def _is_value(name: str) -> bool:
    """Whether a stand-in may replace a class: a plain value's, or one of another package."""
    module, _, leaf = name.partition(".")
    if module == "builtins":
        return leaf in _BUILTINS
    return module not in sys.stdlib_module_names or module in _VALUES


def find_sets(content: Any) -> dict[str, dict[str, Any]]:
    """The sets of arrays in the content of a file: {where: {name: float tensor}}.

    Searches nested dictionaries, skipping the state of optimisers, schedulers and scalers. `where`
    is the path of keys joined by dots, "" for the file itself.

    Raises:
      ValueError: there is none; the message says what the file holds instead.
    """
    import torch

    found: dict[str, dict[str, Any]] = {}

    def look(inside: Any, where: str, depth: int) -> None:
        if not isinstance(inside, Mapping):
            return
        tensors = {
            str(name): value
            for name, value in inside.items()
            if isinstance(value, torch.Tensor) and value.is_floating_point()
        }
        for name, value in inside.items():
            if (
                depth
                and isinstance(name, str)
                and not re.search("optim|sched|scaler", name.lower())
            ):
                look(value, f"{where}.{name}".strip("."), depth - 1)
        if tensors and all(isinstance(name, str) for name in inside):
            found[where] = tensors

    look(content, "", 2)
    if len(found) > 1 and "" in found:
        del found[""]  # scalars beside the sets, such as the best score
    if not found:
        raise ValueError(_describe_content(content))
    return found


def _describe_content(content: Any) -> str:
    parts = [content, *(content.values() if isinstance(content, Mapping) else ())]
    objects = [type(part).__name__ for part in parts if isinstance(part, StandIn)]
    nets = [name.partition(":")[2] for name in objects if re.search("odule|odel|et", name)]
    if isinstance(content, StandIn) or nets:
        what = (nets or [type(content).__name__.partition(":")[2]])[0]
        return f"holds a whole object ({what}) in place of arrays by name"
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, not arrays by name"
    return "holds no arrays of floats"
