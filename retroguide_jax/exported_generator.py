"""A generator from a file that holds its program and its weights: no network of ours is needed."""

from pathlib import Path

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.exported import Program, open_program
from retroguide_jax.parallel.local import LocalDevices


class ExportedGenerator:
    """What `retroguide weights export` writes as generate.stablehlo or generate.onnx.

    Anyone's program of that signature will do: float32 source [b, H, W, 3] in [-1, 1] and noise
    [b, Z] to images [b, H', W', 3] in [-1, 1]. StableHLO runs on this process's devices, each its
    share of the rows; ONNX on the host.

    Args:
      path: the file.

    Raises:
      UserError: see `exported.open_program`; or the signature is another.
    """

    def __init__(self, path: str | Path):
        program = open_program(path, "a generator")
        _check_signature(program)
        program.require_free_batch()
        self.source_size: tuple[int, int] = program.inputs[0][1:3]
        self.z_dim: int = program.inputs[1][1]
        self._call = program.call
        if not program.on_host:
            self._devices = LocalDevices()
            compiled = self._devices.compile(lambda _, *rows: program.call(*rows))
            self._call = lambda *rows: compiled({}, *self._devices.spread(*rows))

    def generate(self, source: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Source [B, H, W, 3] in [-1, 1] and noise z [B, Z] to float32 [B, H', W', 3]."""
        return np.asarray(self._call(source, z)[0])[: len(source)]


def _check_signature(program: Program) -> None:
    shapes = [*program.inputs, *program.outputs]
    if program.dtypes == {"float32"} and [len(shape) for shape in shapes] == [4, 2, 4]:
        source, z, target = shapes
        fixed = all(isinstance(side, int) for side in (*source[1:], *z[1:], *target[1:]))
        if fixed and source[3] == target[3] == 3 and source[0] == z[0] == target[0]:
            return
    raise UserError(
        f"{program.path}: a generator takes float32 [b, H, W, 3] and [b, Z] and gives "
        f"[b, H', W', 3]; this has {program.signature}; name the generate file of "
        "`retroguide weights export`"
    )
