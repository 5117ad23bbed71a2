"""What a layout is: whose names the arrays of a PyTorch weight file have.

A layout is a function `open_source` from a file's arrays to a `Source`, in which each of our arrays
finds its own. They stand in files of their own: twin.py, timm_convnext.py, saig.py.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from retroguide_jax.errors import UserError

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


@dataclasses.dataclass(frozen=True)
class Source:
    """A file's arrays, and which of them is which of ours.

    Attributes:
      arrays: by the file's names, in PyTorch's order of axes.
      name_fn: from our name (`embedder/towers_aerial/norm/scale`) to the file's; None where the
        layout has no such thing.
      remarks: what a reader of the report must know of an array, by the file's names.
      note: what he must know of all of them.
    """

    arrays: Mapping[str, np.ndarray]
    name_fn: Callable[[str], str | None]
    remarks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""


def find_prefix(arrays: Mapping[str, np.ndarray], anchor: str) -> str | None:
    """What the names of a network begin with in a file, by one of its names; None if it is absent.

    Training scripts put a network into others: `model.`, `net.backbone.`

    Raises:
      UserError: the file holds several such networks.
    """
    found = [
        name.removesuffix(anchor)
        for name in arrays
        if name == anchor or name.endswith(f".{anchor}")
    ]
    if len(found) > 1:
        known = ", ".join(repr(prefix.removesuffix(".")) for prefix in sorted(found))
        raise UserError(
            f"holds several such networks, under {known}; choose one with --entry, such as "
            f"--entry={max(found).removesuffix('.')}"
        )
    return found[0] if found else None


def name_leaf(leaf: str) -> str:
    """PyTorch's name of a parameter or statistic of ours: `kernel` is `weight`."""
    return _LEAVES.get(leaf, leaf)
