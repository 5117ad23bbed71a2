"""What torch.save wrote, read by PyTorch's safe reader: nothing that a file names is executed.

Training scripts store more than arrays: arguments, scores, paths, configs. In place of every object
of a foreign class stands one that does nothing, so that the arrays beside it can be read.
"""

import re
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retroguide_jax.errors import UserError

# Older ones can be made to execute code even by torch.load(weights_only=True): CVE-2025-32434.
_SAFE_TORCH = (2, 6)
# Of Python's own modules, those whose objects are values. Whoever asks for another wants an action.
_VALUES = ("argparse", "collections", "pathlib", "datetime", "decimal", "enum", "types", "uuid")
_BUILTINS = ("dict", "list", "tuple", "set", "frozenset", "int", "float", "str", "bool", "bytes",
             "complex", "object", "range", "slice")  # fmt: skip
_MOST_CLASSES = 200  # in one file; every new one is found by another attempt


class StandIn:
    """Takes the place of an object of any class, and does nothing."""

    def __init__(self, *args, **kwargs):
        del args, kwargs

    def __setstate__(self, state):
        del state


class _DictStandIn:
    """Takes the place of a class of dictionaries: what is put into it is kept."""

    def __new__(cls, *args, **kwargs):
        del cls, args, kwargs
        return OrderedDict()


class _ListStandIn:
    """Takes the place of a class of lists."""

    def __new__(cls, *args, **kwargs):
        del cls, args, kwargs
        return []


# By what PyTorch says of a stand-in that something is put into.
_CONTAINERS = {
    r"SETITEMS? for dict.*StandIn:([\w.]+)": _DictStandIn,
    r"(?:append to|extend) lists.*StandIn:([\w.]+)": _ListStandIn,
}


def load(path: Path) -> Any:
    """Reads a file of torch.save; objects of foreign classes are `StandIn`s.

    Raises:
      UserError: PyTorch is missing or older than 2.6, or the file asks for an action.
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
    """Puts a stand-in where reading ended for want of a class; whether there was one to put."""
    for pattern, container in _CONTAINERS.items():
        used = re.search(pattern, message)
        if used and known.get(used[1]) is not container:
            known[used[1]] = container
            return True
    asked = re.search(r"GLOBAL ([\w.]+)", message)
    # PyTorch names builtins without their module.
    name = asked and (asked[1] if "." in asked[1] else f"builtins.{asked[1]}")
    if not asked or name in known:
        return False
    if not _is_value(name):
        raise UserError(
            f"{path}: asks for {name}, which could run code, and is not read; ask for a file of "
            "torch.save(model.state_dict())"
        )
    known[name] = type(f"StandIn:{name}", (StandIn,), {})
    return True


def _is_value(name: str) -> bool:
    """Whether a file of arrays may well hold an object of a class; what stands in is harmless."""
    module, _, leaf = name.partition(".")
    if module == "builtins":
        return leaf in _BUILTINS
    return module not in sys.stdlib_module_names or module in _VALUES


def find_sets(content: Any) -> dict[str, dict[str, Any]]:
    """The sets of arrays in what a file holds: {where: {name: float tensor}}.

    Looks into dictionaries in dictionaries, and not at the state of optimisers. "" is the file
    itself.

    Raises:
      ValueError: there is none; the message says what there is instead.
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
        del found[""]  # a number or two beside the sets, such as the best score
    if not found:
        raise ValueError(_describe_content(content))
    return found


def _describe_content(content: Any) -> str:
    parts = [content, *(content.values() if isinstance(content, Mapping) else ())]
    whole = [type(part).__name__ for part in parts if isinstance(part, StandIn)]
    nets = [name.partition(":")[2] for name in whole if re.search("odule|odel|et", name)]
    if isinstance(content, StandIn) or nets:
        what = (nets or [type(content).__name__.partition(":")[2]])[0]
        return f"holds a whole object ({what}) in place of arrays by name"
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, not arrays by name"
    return "holds no arrays of floats"
