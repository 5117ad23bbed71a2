"""Weight layouts: the conventions by which PyTorch weight files name their arrays.

A weight layout is a function `open_source` from a file's arrays to a `Source`, which maps each of
our names to the file's. There is one module per weight layout: twin.py, timm_convnext.py, saig.py.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from retroguide_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Source:
    """A file's arrays, and the mapping from our names to theirs.

    Attributes:
      arrays: arrays by the file's names, in PyTorch's order of axes.
      name_fn: from our name (`embedder/towers_aerial/norm/scale`) to the file's; None if the weight
        layout has no such array.
      remarks: remarks for the report on single arrays, by the file's names.
      note: remark for the report on all arrays.
    """

    arrays: Mapping[str, np.ndarray]
    name_fn: Callable[[str], str | None]
    remarks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""


def find_prefix(arrays: Mapping[str, np.ndarray], anchor: str) -> str | None:
    """The prefix of a network's names in a file, found by one of these names; None if it is absent.

    Training scripts nest a network in others, which gives prefixes: `model.`, `net.backbone.`

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
