"""Opens programs from files safely: StableHLO of jax.export and ONNX.

Such a file holds a function with its constants, so that it runs without its author's code. PyTorch
programs are refused: torch.export.load unpickles the content of a .pt2 file, and according to
PyTorch's documentation, a malicious file can make torch.jit.load execute code.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.onnx_files import hash_files, read_external
from retroguide_jax.parallel.local import LocalDevices
from retroguide_jax.text import one_line

# The custom calls that jax.export writes for ordinary networks. Any other could run native code of
# this machine with arguments that the file chooses.
_HARMLESS_CALLS = {"Sharding", "shape_assertion", "mhlo.erf", "stablehlo.dynamic_reduce_window"}
_LIST_CALLS = r"""
import json, re, sys
from jax import export
program = export.deserialize(bytearray(sys.stdin.buffer.read())).mlir_module()
print(json.dumps(sorted(set(re.findall(r'custom_call(?: @"?([^"(\s]+))?', program)))))
"""


@dataclasses.dataclass(frozen=True)
class Program:
    """A function from arrays to arrays, from a file.

    Attributes:
      path: the file.
      library: the library that runs it.
      fingerprint: SHA-256 of all of its files, hexadecimal.
      inputs: shapes; a side is an int, or another object if the caller chooses it.
      outputs: shapes, likewise.
      dtypes: types of all inputs and outputs.
      call: (*arrays) -> list of arrays; traceable by jit, unless `on_host`.
      on_host: `call` takes and returns NumPy arrays.
    """

    path: Path
    library: str
    fingerprint: str
    inputs: list[tuple[Any, ...]]
    outputs: list[tuple[Any, ...]]
    dtypes: set[str]
    call: Callable[..., list[Any]]
    on_host: bool = False

    @property
    def signature(self) -> str:
        """For messages: `[(b, 4)] -> [(b, 8, 8, 3)] of float32`."""
        sides = [
            "[" + ", ".join(f"({', '.join(map(str, shape))})" for shape in shapes) + "]"
            for shapes in (self.inputs, self.outputs)
        ]
        return f"{' -> '.join(sides)} of {', '.join(sorted(self.dtypes))}"

    def require_free_batch(self) -> None:
        """Raises UserError if the number of rows is fixed."""
        if isinstance(self.inputs[0][0], int):
            raise UserError(
                f"{self.path}: takes exactly {self.inputs[0][0]} images at a time; export it with "
                'a free batch: jax.export.symbolic_shape("b, H, W, 3"), or dynamic_shapes of '
                "torch.onnx.export"
            )


def open_program(path: str | Path, what: str) -> Program:
    """Opens a program without running any of it.

    Args:
      path: an .onnx file (run by ONNX Runtime on the host's CPU), or a .stablehlo file (written by
        jax.export.Exported.serialize; runs on the devices). An ONNX program for a fixed number of
        rows is run once per batch of that size, so that `call` takes any number of rows.
      what: description of the expected program, for messages: "a feature network".

    Raises:
      UserError: the file is missing, damaged, of another kind, or made for other devices; it calls
        native code of this machine; a library is missing.
    """
    path = Path(path)
    open_fn = {".onnx": _open_onnx, ".stablehlo": _open_stablehlo}.get(path.suffix.lower())
    if open_fn is None:
        raise UserError(_refuse(path, what))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return open_fn(path, content)


def require_flatbuffers(what: str) -> None:
    """Raises UserError if flatbuffers, which StableHLO files need, is missing."""
    try:
        import flatbuffers  # noqa: F401  jax.export needs it, but its own error is less clear
    except ImportError as error:
        raise UserError(f"{what}: needs flatbuffers; pip install flatbuffers") from error


def _open_onnx(path: Path, content: bytes) -> Program:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: needs ONNX Runtime; pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are reported below
    try:
        external = read_external(path, content)
        options.add_external_initializers_from_files_in_memory(
            list(external), list(external.values()), [len(part) for part in external.values()]
        )
        # From bytes, so that the program cannot make ONNX Runtime read other files.
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as error:
        raise UserError(_report_damage(path, "ONNX Runtime", error)) from error
    arrays = (session.get_inputs(), session.get_outputs())
    inputs, outputs = ([tuple(array.shape) for array in side] for side in arrays)
    dtypes = {array.type for side in arrays for array in side}
    names = [array.name for array in arrays[0]]

    def call(*rows):
        return session.run(None, dict(zip(names, rows, strict=True)))

    numbers = {shape[0] if shape else None for shape in (*inputs, *outputs)}
    if len(numbers) == 1 and isinstance(number := numbers.pop(), int):
        call = _in_batches(call, number)
        inputs, outputs = ([("b", *shape[1:]) for shape in side] for side in (inputs, outputs))
    return Program(
        path,
        "ONNX Runtime",
        hash_files(content, external),
        inputs,
        outputs,
        {"float32" if dtype == "tensor(float)" else dtype for dtype in dtypes},
        call,  # pyright: ignore[reportArgumentType]
        on_host=True,
    )


def _in_batches(call, size: int):
    """Wraps `call` to run in batches of exactly `size` rows; the last is padded, then cut."""

    def call_all(*rows):
        num = len(rows[0])
        filled = [np.concatenate([array, array[-1:].repeat(-num % size, 0)]) for array in rows]
        batches = [
            call(*(array[start : start + size] for array in filled))
            for start in range(0, num, size)
        ]
        return [np.concatenate(parts)[:num] for parts in zip(*batches, strict=True)]

    return call_all


def _open_stablehlo(path: Path, content: bytes) -> Program:
    require_flatbuffers(str(path))
    import jax
    from jax import export

    try:
        exported = export.deserialize(bytearray(content))
    except Exception as error:
        raise UserError(_report_damage(path, "jax.export", error)) from error
    unknown = [name for name in _list_calls(path, content) if name not in _HARMLESS_CALLS]
    if unknown:
        raise UserError(
            f"{path}: calls {', '.join(map(repr, unknown))}, which is not run from a file; export "
            "it without callbacks, kernels and linear algebra"
        )
    backend = jax.default_backend()
    if not {"gpu": {"cuda", "rocm"}}.get(backend, {backend}) & set(exported.platforms):
        raise UserError(
            f"{path}: is made for {', '.join(exported.platforms)}, not for this machine's "
            f"{backend}; export it with platforms=[...] for both"
        )

    def call(*rows):
        arguments, keywords = jax.tree.unflatten(exported.in_tree, rows)
        return jax.tree.leaves(exported.call(*arguments, **keywords))

    return Program(
        path,
        "jax.export",
        hashlib.sha256(content).hexdigest(),
        [array.shape for array in exported.in_avals],
        [array.shape for array in exported.out_avals],
        {str(array.dtype) for array in (*exported.in_avals, *exported.out_avals)},
        call,
    )


def _list_calls(path: Path, content: bytes) -> list[str]:
    """Custom calls of a program, listed in a subprocess: the parser crashes on damaged files."""
    command = [sys.executable, "-P", "-c", _LIST_CALLS]  # -P: nothing from the current folder
    env = os.environ | {"JAX_PLATFORMS": "cpu"}  # the subprocess must not take the devices
    done = subprocess.run(command, input=content, capture_output=True, env=env)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        error = ValueError(reason[0] if reason and done.returncode > 0 else "its parser crashes")
        raise UserError(_report_damage(path, "jax.export", error))
    return json.loads(done.stdout)


def _refuse(path: Path, what: str) -> str:
    wanted = "export it as .onnx (torch.onnx.export) or .stablehlo (jax.export)"
    if path.suffix.lower() in (".pt2", ".pt", ".pth", ".ts"):
        return f"{path}: loading PyTorch's own programs can execute code in the file; {wanted}"
    return f"{path}: not {what} that can be read; {wanted}"


def _report_damage(path: Path, library: str, error: Exception) -> str:
    reason = f"{type(error).__name__}: {one_line(error)}"
    return f"{path}: {library} cannot read it ({reason}); export it again"


class ExportedGenerator:
    """A generator that `retroguide weights export` wrote: generate.stablehlo or generate.onnx.

    Any program with that signature works: float32 source [b, H, W, 3] in [-1, 1] and noise [b, Z]
    to images [b, H', W', 3] in [-1, 1]. StableHLO runs on this process's devices, with the rows
    divided among them; ONNX runs on the host.

    Args:
      path: the file.

    Raises:
      UserError: see `exported.open_program`; or the program has another signature.
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
