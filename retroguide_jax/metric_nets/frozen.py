"""The common interface of all frozen networks that the evaluation uses."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class FrozenNet:
    """A frozen network.

    Attributes:
      name: its name in the protocol, such as "inception_pytorch".
      fingerprint: hexadecimal digest of its weights and preprocessing: nets with equal fingerprints
        give equal rows. It is the key of cached reference statistics.
      protocol: description of the preprocessing (resize, colour range) with its source.
      variables: a tree of float32 arrays, `apply`'s first argument; {} for a net on the host.
      apply: (variables, images, ...) -> {name of the output: float32 [B, ...]}, for uint8 images
        [B, H, W, 3]; traceable by jit, and each row independent of the others, unless `on_host`.
      on_host: `apply` takes and returns NumPy arrays and must not be traced (ONNX, torch).
    """

    name: str
    fingerprint: str
    protocol: str
    variables: Any
    apply: Callable[..., dict[str, Any]]
    on_host: bool = False
