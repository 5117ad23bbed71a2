"""What every frozen network looks like to the evaluation, whoever made it."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class FrozenNet:
    """A frozen network.

    Attributes:
      name: what the protocol calls it, "inception_pytorch".
      fingerprint: hexadecimal digest of its weights and of its preprocessing: two nets with equal
        fingerprints give equal rows. Cached reference statistics are kept under it.
      protocol: the preprocessing in words, with its source: resize, colour range.
      variables: a tree of float32 arrays, `apply`'s first argument; {} for a net on the host.
      apply: (variables, images, ...) -> {name of the output: float32 [B, ...]}, of uint8
        [B, H, W, 3] images; traceable by jit and row by row independent, unless `on_host`.
      on_host: `apply` takes and gives NumPy arrays and must not be traced (ONNX, torch).
    """

    name: str
    fingerprint: str
    protocol: str
    variables: Any
    apply: Callable[..., dict[str, Any]]
    on_host: bool = False
