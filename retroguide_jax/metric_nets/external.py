"""External feature networks, from files that hold a program: ONNX and StableHLO.

Each takes float32 RGB images in [-1, 1] and gives one row of features per image. Any other
preprocessing (resizing, subtracting a mean) must be part of the exported network.
"""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.exported import Program, open_program
from retroguide_jax.metric_nets.frozen import FrozenNet


def open_net(path: str | Path) -> FrozenNet:
    """Opens a feature network, named after its file.

    Its `apply(variables, images)` takes uint8 [B, H, W, 3], gives images / 127.5 - 1 to the network
    and returns "features", float32 [B, D]. It raises UserError on images of a size that the network
    does not take.

    Args:
      path: an .onnx file (input [B, 3, H, W] or [B, H, W, 3], distinguished by its declared shape),
        or a .stablehlo file (input [B, H, W, 3]); see `exported.open_program`.

    Raises:
      UserError: see `exported.open_program`; the network does not have exactly one input and one
        output, or these have other shapes or types.
    """
    program = open_program(path, "a feature network")
    channels_first = _find_layout(program)
    program.require_free_batch()
    size = program.inputs[0][2:] if channels_first else program.inputs[0][1:3]
    xp = np if program.on_host else jnp

    def apply(variables, images):
        del variables
        _check_size(program.path, size, images.shape[1:3])
        x = xp.asarray(images).astype(np.float32) / 127.5 - 1.0
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if channels_first else x
        return {"features": program.call(x)[0]}

    name = program.path.name
    protocol = f"{name} by {program.library}; float32 in [-1, 1], RGB, at the images' own size"
    return FrozenNet(
        program.path.stem, program.fingerprint, protocol, {}, apply, on_host=program.on_host
    )


def _find_layout(program: Program) -> bool:
    """Whether channels come before rows and columns, which only ONNX networks may have."""
    ranks = [len(shape) for shape in (*program.inputs, *program.outputs)]
    if program.dtypes == {"float32"} and len(program.inputs) == 1 and ranks == [4, 2]:
        _, second, _, last = program.inputs[0]
        if last == 3 and (second != 3 or not program.on_host):
            return False
        if second == 3 and last != 3 and program.on_host:
            return True
    raise UserError(
        f"{program.path}: a feature network takes one float32 array [B, 3, H, W] (ONNX) or "
        f"[B, H, W, 3] and gives one [B, D]; this has {program.signature}; export it so"
    )


def _check_size(path: Path, wanted: tuple[Any, ...], given: tuple[int, ...]) -> None:
    if any(isinstance(side, int) and side != got for side, got in zip(wanted, given, strict=True)):
        raise UserError(
            f"{path}: takes images of {' x '.join(map(str, wanted))}, got "
            f"{' x '.join(map(str, given))}; resize inside the network before exporting it"
        )
