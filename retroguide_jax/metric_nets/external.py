"""Feature networks of others, from files that hold a program: ONNX and StableHLO.

Each takes float32 images in [-1, 1], RGB, and gives one row of features an image. Whatever else it
expects (a size, a mean) belongs into the network before it is exported.

PyTorch's own programs are refused. torch.export.load unpickles what a .pt2 file holds, and
PyTorch's documentation says of torch.jit.load that a malicious file makes it execute code.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.metric_nets.frozen import FrozenNet

_PROTOCOL = "float32 in [-1, 1], RGB, at the images' own size"
# What jax.export writes for ordinary networks. Others call code of the machine's with arguments
# that the file chooses.
_HARMLESS_CALLS = {"Sharding", "shape_assertion", "mhlo.erf", "stablehlo.dynamic_reduce_window"}


def open_net(path: str | Path) -> FrozenNet:
    """Opens a feature network, named after its file.

    Its `apply(variables, images)` takes uint8 [B, H, W, 3], hands images / 127.5 - 1 to the network
    and gives "features", float32 [B, D]. It raises UserError on images of a size that the network
    does not take.

    Args:
      path: an .onnx file (run by ONNX Runtime on the host's CPU; input [B, 3, H, W] or
        [B, H, W, 3], told apart by its declared shape), or a .stablehlo file, what
        jax.export.Exported.serialize gives (input [B, H, W, 3]; traceable, runs on the devices).

    Raises:
      UserError: the file is missing, damaged or of another kind; a library is missing; the network
        has other than one input and one output, or these have other shapes or types.
    """
    path = Path(path)
    open_fn = {".onnx": _open_onnx, ".stablehlo": _open_stablehlo}.get(path.suffix.lower())
    if open_fn is None:
        raise UserError(_refuse(path))
    try:
        program = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return open_fn(path, program, hashlib.sha256(program).hexdigest())


def _open_onnx(path: Path, program: bytes, fingerprint: str) -> FrozenNet:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: needs ONNX Runtime; pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is said below
    try:
        # From bytes, so that the file cannot name others that should be read as well.
        session = onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(_report_damage(path, "ONNX Runtime", error)) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shapes = [tuple(array.shape) for array in (*inputs, *outputs)]
    types = [array.type for array in (*inputs, *outputs)]
    if [len(inputs), len(outputs)] != [1, 1] or set(types) != {"tensor(float)"}:
        raise UserError(_report_signature(path, f"{shapes} of {', '.join(types)}"))
    channels_first = len(shapes[0]) == 4 and shapes[0][1] == 3 and shapes[0][3] != 3
    channels_last = len(shapes[0]) == 4 and shapes[0][3] == 3 and shapes[0][1] != 3
    if channels_first == channels_last or len(shapes[1]) != 2:
        raise UserError(_report_signature(path, str(shapes)))
    if isinstance(shapes[0][0], int):
        raise UserError(
            f"{path}: takes exactly {shapes[0][0]} images at a time; export it with a dynamic "
            "batch (torch.onnx.export(..., dynamic_shapes=...))"
        )
    size = shapes[0][2:] if channels_first else shapes[0][1:3]

    def apply(variables, images):
        del variables
        images = np.asarray(images)
        _check_size(path, size, images.shape[1:3])
        x = images.astype(np.float32) / 127.5 - 1.0
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if channels_first else x
        return {"features": session.run(None, {inputs[0].name: x})[0]}

    protocol = f"{path.name} by ONNX Runtime; {_PROTOCOL}"
    return FrozenNet(path.stem, fingerprint, protocol, {}, apply, on_host=True)


def _open_stablehlo(path: Path, program: bytes, fingerprint: str) -> FrozenNet:
    try:
        import flatbuffers  # noqa: F401  jax.export needs it, and would say so less clearly
    except ImportError as error:
        raise UserError(f"{path}: needs flatbuffers; pip install flatbuffers") from error
    from jax import export

    try:
        exported = export.deserialize(bytearray(program))
        calls = re.findall(r"custom_call(?: @\"?([^\"(\s]+))?", exported.mlir_module())
    except Exception as error:
        raise UserError(_report_damage(path, "jax.export", error)) from error
    unknown = sorted(set(calls) - _HARMLESS_CALLS)
    if unknown:
        raise UserError(
            f"{path}: calls {', '.join(map(repr, unknown))}, which is not run from a file; export "
            "the network without callbacks, kernels and linear algebra"
        )
    shapes = [array.shape for array in (*exported.in_avals, *exported.out_avals)]
    types = {str(array.dtype) for array in (*exported.in_avals, *exported.out_avals)}
    good = len(shapes) == 2 and types == {"float32"} and [len(s) for s in shapes] == [4, 2]
    if not good or shapes[0][3] != 3:
        raise UserError(_report_signature(path, f"{shapes} of {', '.join(sorted(types))}"))
    if isinstance(shapes[0][0], int):
        raise UserError(
            f"{path}: takes exactly {shapes[0][0]} images at a time; export it with a symbolic "
            'batch, jax.export.symbolic_shape("b, H, W, 3")'
        )
    size = shapes[0][1:3]

    def apply(variables, images):
        del variables
        _check_size(path, size, images.shape[1:3])
        return {"features": exported.call(images.astype(jnp.float32) / 127.5 - 1.0)}

    protocol = f"{path.name} by jax.export; {_PROTOCOL}"
    return FrozenNet(path.stem, fingerprint, protocol, {}, apply)


def _check_size(path: Path, wanted: tuple[Any, ...], given: tuple[int, ...]) -> None:
    if any(isinstance(side, int) and side != got for side, got in zip(wanted, given, strict=True)):
        raise UserError(
            f"{path}: takes images of {' x '.join(map(str, wanted))}, got "
            f"{' x '.join(map(str, given))}; resize inside the network before exporting it"
        )


def _refuse(path: Path) -> str:
    wanted = "export the network as .onnx (torch.onnx.export) or .stablehlo (jax.export)"
    if path.suffix.lower() in (".pt2", ".pt", ".pth", ".ts"):
        return f"{path}: loading PyTorch's own programs can execute code in the file; {wanted}"
    return f"{path}: not a feature network that can be read; {wanted}"


def _report_damage(path: Path, library: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return f"{path}: {library} cannot read it ({type(error).__name__}: {reason}); export it again"


def _report_signature(path: Path, found: str) -> str:
    return (
        f"{path}: a feature network takes one float32 array [B, 3, H, W] (ONNX) or [B, H, W, 3] "
        f"and gives one [B, D]; this has {found}; export it so"
    )
