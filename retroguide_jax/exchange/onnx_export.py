"""Exports a trained model as ONNX by jax2onnx, and compares it with JAX before writing files."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.exchange.programs import Function, list_functions
from retroguide_jax.files import write_beside
from retroguide_jax.inference import Model
from retroguide_jax.text import one_line

# Outputs are of order one, and another order of summation in float32 changes them by about 1e-6.
_LARGEST_DIFFERENCE = 1e-4
# --no-deps: jax2onnx excludes the Orbax releases that this package needs, but works with them.
_INSTALL = (
    "pip install onnx onnxruntime onnx-ir equinox einops dm-pix && "
    "pip install --no-deps jax2onnx==0.17.1"
)


def export_onnx(model: Model, output: Path) -> dict[str, str]:
    """Writes NAME.onnx for each function, for any batch size, computing in float32.

    Arrays have the shapes of the function: images are [b, H, W, 3], not channels first. The file's
    metadata names the views, their sizes and the order of axes.

    Args:
      model: the trained model.
      output: the folder.

    Returns:
      {file name: description with the largest difference from JAX}.

    Raises:
      UserError: a library is missing; a function cannot be converted; the outputs of ONNX Runtime
        differ from JAX's; a file cannot be written.
    """
    try:
        import jax2onnx
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(f"--format=onnx: needs {error.name}; {_INSTALL}") from error
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # hides warnings of unknown shapes
    contents, files = {}, {}
    for function in list_functions(model, dtype="float32"):
        try:
            # jax2onnx 0.17.1 cannot read nested jits of JAX 0.12, nor choices between platforms.
            with jax.disable_jit(), mock.patch.object(jax.lax, "platform_dependent", _choose):
                proto = jax2onnx.to_onnx(
                    function.call,
                    [("b", *shape) for shape in function.inputs.values()],
                    model_name=function.name,
                    input_names=list(function.inputs),
                    output_names=[function.output],
                )
            onnx.helper.set_model_props(proto, _describe(model, function))
            content = proto.SerializeToString()
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            difference = max(_compare(function, session, num_rows) for num_rows in (1, 3))
        except Exception as error:  # each library has its own exceptions
            raise UserError(
                f"--format=onnx: {function.name} cannot be converted ({one_line(error)}); use "
                "--format=stablehlo, or jax2onnx 0.17.1, which this was written for"
            ) from error
        if not difference <= _LARGEST_DIFFERENCE:
            raise UserError(
                f"--format=onnx: {function.name} by ONNX Runtime differs from JAX by "
                f"{difference:.1e}, more than {_LARGEST_DIFFERENCE:.0e}; use --format=stablehlo, "
                "or jax2onnx 0.17.1, which this was written for"
            )
        name = f"{function.name}.onnx"
        contents[name] = content
        files[name] = (
            f"{function.description}; {len(content):,} bytes, differs from JAX by {difference:.1e}"
        )
    for name, content in contents.items():
        with write_beside(output / name) as path:
            path.write_bytes(content)
    return files


def _choose(*args, default: Callable, **_) -> Any:
    """`jax.lax.platform_dependent` where the platform is unknown: the plainest operations."""
    return default(*args)


def _describe(model: Model, function: Function) -> dict[str, str]:
    sizes = model.networks.sizes.items()
    return {
        "function": function.name,
        "images": "NHWC, RGB, float32 in [-1, 1]",
        "view": function.view,
        "source_view": model.source_view,
        "target_view": model.target_view,
        **{f"{view}_size": f"{height}x{width}" for view, (height, width) in sizes},
        "step": str(model.step),
    }


def _compare(function: Function, session, num_rows: int) -> float:
    """The largest difference between JAX and ONNX Runtime on rows of noise."""
    rng = np.random.default_rng(0)
    rows = {
        name: rng.uniform(-1, 1, (num_rows, *shape)).astype(np.float32)
        for name, shape in function.inputs.items()
    }
    expected = np.asarray(jax.jit(function.call)(*rows.values()))
    (found,) = session.run(None, rows)
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
