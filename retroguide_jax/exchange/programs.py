"""Exports a trained model as programs that contain its weights and run without our code."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from retroguide_jax.exported import require_flatbuffers
from retroguide_jax.files import write_beside
from retroguide_jax.inference import Model
from retroguide_jax.networks import make_networks

PLATFORMS = ("cpu", "cuda", "tpu")


@dataclasses.dataclass(frozen=True)
class Function:
    """One function of a model.

    Attributes:
      name: "generate", "embed_aerial" or "embed_ground".
      call: traceable function of float32 arrays, in the order of `inputs`.
      inputs: name -> shape of one row.
      output: name of the result.
      view: view of the images it takes.
      description: description for a reader of the exported folder.
    """

    name: str
    call: Callable[..., jax.Array]
    inputs: dict[str, tuple[int, ...]]
    output: str
    view: str
    description: str


def list_functions(model: Model, dtype: str | None = None) -> list[Function]:
    """The functions of a model, with its averaged weights as constants.

    Args:
      model: the trained model.
      dtype: type of the computation; by default the config's.
    """
    config = model.config.copy_and_resolve_references()
    config.dtype = dtype or config.dtype
    config.train.remat = "none"  # there is no backward pass
    plain = Model(config, make_networks(config))
    variables = jax.device_get(model.variables)
    functions = []
    for view, (height, width) in plain.networks.sizes.items():
        call = functools.partial(plain.embed_rows, variables, view=view)
        inputs = {"images": (height, width, 3)}
        text = f"{view} images [b, {height}, {width}, 3] in [-1, 1] to unit rows [b, D]"
        functions.append(Function(f"embed_{view}", call, inputs, "embedding", view, text))
    if plain.has_generator:
        source, target = plain.source_view, plain.target_view
        inputs = {"source": (*plain.source_size, 3), "z": (plain.z_dim,)}
        text = (
            f"{source} images [b, {', '.join(map(str, inputs['source']))}] in [-1, 1] and normal "
            f"noise [b, {plain.z_dim}] to {target} images in [-1, 1]"
        )
        call = functools.partial(plain.generate_rows, variables)
        functions.append(Function("generate", call, inputs, "target", source, text))
    return functions


def export_stablehlo(model: Model, output: Path) -> dict[str, str]:
    """Writes NAME.stablehlo for each function, for any batch size, on CPUs, NVIDIA GPUs and TPUs.

    Args:
      model: the trained model.
      output: the folder.

    Returns:
      {file name: description}.

    Raises:
      UserError: flatbuffers is missing, or a file cannot be written.
    """
    require_flatbuffers("--format=stablehlo")
    from jax import export

    files = {}
    (batch,) = export.symbolic_shape("b")
    for function in list_functions(model):
        rows = [jax.ShapeDtypeStruct((batch, *s), jnp.float32) for s in function.inputs.values()]
        with _without_folders():
            program = export.export(jax.jit(function.call), platforms=PLATFORMS)(*rows).serialize()
        name = f"{function.name}.stablehlo"
        with write_beside(output / name) as path:
            path.write_bytes(program)
        files[name] = f"{function.description}; {len(program):,} bytes"
    return files


@contextlib.contextmanager
def _without_folders() -> Iterator[None]:
    """Keeps this machine's folders out of a program's source locations: only file names stay."""
    flag = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, flag)
    jax.config.update(flag, r".*[/\\]")
    try:
        yield
    finally:
        jax.config.update(flag, before)
