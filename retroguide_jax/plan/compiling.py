"""Compiles the functions that training and evaluation run, for devices that are not present."""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import importlib.metadata
import json
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from retroguide_jax import __version__
from retroguide_jax.errors import UserError
from retroguide_jax.files import write_beside
from retroguide_jax.inference import Model
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.local import LocalDevices
from retroguide_jax.parallel.mesh import batch_sharding, make_mesh
from retroguide_jax.state import TrainState, abstract_state
from retroguide_jax.text import one_line
from retroguide_jax.training.steps import make_train_step

_KINDS = {"params": "parameters", "opt": "optimizer", "ema": "averages"}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([KMGT]?)B?"


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compilation result.

    Attributes:
      text: text of the program that every device runs; empty if it does not fit.
      bytes: bytes per device by kind: arguments, outputs, aliased (outputs in place of arguments),
        temporaries, program. Empty if it does not fit.
      flops: the compiler's own count: loop bodies once, the costliest branch of each conditional.
      seconds: compile time.
      needed_bytes: memory needed, if it does not fit; 0 if it does, None if the compiler's message
        does not say.
    """

    text: str
    bytes: dict[str, int]
    flops: float
    seconds: float
    needed_bytes: int | None = 0

    @property
    def fits(self) -> bool:
        """Whether the program fits the device's memory."""
        return bool(self.text)


@dataclasses.dataclass(frozen=True)
class AbstractStep:
    """A training step with the shapes of its arguments.

    Attributes:
      fn: the jitted step.
      state: ShapeDtypeStructs with shardings, of the state.
      batch: ShapeDtypeStructs with shardings, of the batch.
      mesh: mesh of the devices.
    """

    fn: Any
    state: TrainState
    batch: dict[str, Any]
    mesh: Mesh


def describe_step(config: ConfigDict, devices: Any) -> AbstractStep:
    """The real training step of a config on a mesh over the devices, without computing anything.

    Raises:
      UserError: see `make_networks`, `make_mesh` and `rules.state_shardings`.
    """
    networks = make_networks(config)
    mesh = make_mesh(config.mesh, devices)
    state = abstract_state(config, networks, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    fn = make_train_step(config, networks, mesh, shardings)
    batch = {
        view: _shape((config.train.batch_size, *size, 3), batch_sharding(mesh), np.uint8)
        for view, size in networks.sizes.items()
    }
    batch["place"] = _shape((config.train.batch_size,), batch_sharding(mesh), np.int32)
    return AbstractStep(fn, state, batch, mesh)


def list_evaluation(config: ConfigDict, device: Any) -> dict[str, tuple[Any, tuple]]:
    """The functions that evaluation runs on each device alone, with the shapes of their arguments.

    Returns:
      {"embed aerial": (fn, arguments), "embed ground": ..., "generate": ...}, the last only with a
      generator; each takes `config.eval.batch_size` rows.
    """
    networks = make_networks(config)
    local = LocalDevices([device])
    whole = jax.sharding.NamedSharding(local.mesh, jax.sharding.PartitionSpec())
    mesh = make_mesh({"data": 1}, [device])
    variables = jax.tree.map(
        lambda leaf: _shape(leaf.shape, whole, leaf.dtype),
        abstract_state(config, networks, mesh).ema,
    )
    num = config.eval.batch_size
    model = Model(config, networks)
    images = {view: _shape((num, *size, 3), whole) for view, size in networks.sizes.items()}
    # The functions of rows, not the public ones: `Model` runs those on this process's own devices.
    functions: dict[str, tuple[Callable[..., Any], tuple]] = {
        f"embed {view}": (
            local.compile(functools.partial(model.embed_rows, view=view)),
            (variables, images[view]),
        )
        for view in images
    }
    if model.has_generator:
        noise = _shape((num, model.z_dim), whole)
        arguments = (variables, images[model.source_view], noise)
        functions["generate"] = (local.compile(model.generate_rows), arguments)
    return functions


def compile_lowered(lowered: jax.stages.Lowered, options: dict[str, str]) -> Compiled:
    """Compiles `fn.lower(*arguments)` for the devices of its arguments' shardings, in minutes.

    Args:
      lowered: the program.
      options: compiler options; a lowered program does not carry those of its `jax.jit`.

    Raises:
      UserError: the compiler fails for another reason than memory.
    """
    start = time.monotonic()
    try:
        compiled = lowered.compile(compiler_options=options)  # pyright: ignore[reportArgumentType]
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise UserError(
                f"the compiler fails: {one_line(error)}; try another --topology"
            ) from error
        return Compiled("", {}, 0.0, time.monotonic() - start, read_needed_bytes(str(error)))
    stats: Any = compiled.memory_analysis()
    sizes = {
        "arguments": stats.argument_size_in_bytes,
        "outputs": stats.output_size_in_bytes,
        "aliased": stats.alias_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "program": stats.generated_code_size_in_bytes,
    }
    costs = compiled.cost_analysis() or {}
    seconds = time.monotonic() - start
    return Compiled(compiled.as_text(), sizes, float(costs.get("flops", 0.0)), seconds)  # pyright: ignore[reportArgumentType]


def read_needed_bytes(message: str) -> int | None:
    """The memory that a program needs, from the compiler's out-of-memory message; None if absent.

    Known messages: `... the total memory required for ... (21.3G) exceeds available HBM (15.75G)`
    and `Used 21.30G of 15.75G hbm`.
    """
    for pattern in (rf"\({_SIZE}\) exceeds available", rf"[Uu]sed {_SIZE} of"):
        match = re.search(pattern, message)
        if match:
            return int(float(match[1]) * _UNITS[match[2]])
    return None


def measure_state(step: AbstractStep) -> dict[str, int]:
    """Bytes per device of a step's arguments, from shapes and shardings alone.

    Returns:
      {parameters, optimizer, averages, other_state, batch}.
    """
    sizes = dict.fromkeys((*_KINDS.values(), "other_state"), 0)
    for name, tree in step.state.to_tree().items():
        sizes[_KINDS.get(name, "other_state")] += _count_bytes(tree)
    return sizes | {"batch": _count_bytes(step.batch)}


def measure_memory(step: AbstractStep, compiled: Compiled) -> dict[str, int]:
    """Bytes per device by kind.

    The kinds of `measure_state` and, if the program fits, `padding` (arguments fill whole tiles in
    memory), `outputs` (those not stored in place of an argument), `temporaries` (activations and
    everything else that lives within a step), `program`, and `total`.
    """
    sizes = measure_state(step)
    if not compiled.fits:
        return sizes
    sizes["padding"] = compiled.bytes["arguments"] - sum(sizes.values())
    sizes["outputs"] = compiled.bytes["outputs"] - compiled.bytes["aliased"]
    sizes |= {"temporaries": compiled.bytes["temporaries"], "program": compiled.bytes["program"]}
    return sizes | {"total": sum(sizes.values())}


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/retroguide_jax/plan`, or the same in `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "retroguide_jax" / "plan"


def list_versions() -> dict[str, str]:
    """Versions of the packages that a plan depends on."""
    versions = {"retroguide_jax": __version__}
    for name in ("jax", "flax", "libtpu", "jax-cuda13-plugin"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def cached_compile(
    folder: Path,
    lowered: jax.stages.Lowered,
    options: dict[str, str] | None = None,
    **target: str | int,
) -> Compiled:
    """`compile_lowered` behind a disk cache, keyed by program, target and package versions.

    JAX's own compilation cache cannot read back programs for devices that are not present.

    Args:
      folder: folder of the cache, one file per program.
      lowered: the program before compilation.
      options: compiler options.
      **target: description of the target devices, part of the key.

    Raises:
      UserError: the compiler fails for another reason than memory, or the file cannot be written.
    """
    options = options or {}
    target |= options | {
        name: os.environ.get(name, "") for name in ("LIBTPU_INIT_ARGS", "XLA_FLAGS")
    }
    target |= {"level": str(jax.config.jax_optimization_level)} | list_versions()  # pyright: ignore[reportAttributeAccessIssue]
    parts = (lowered.as_text(), json.dumps(target, sort_keys=True))
    path = folder / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.json.gz"
    try:
        return Compiled(**json.loads(gzip.decompress(path.read_bytes())))
    # The entry is absent, truncated, or from another release: compile again.
    except (OSError, EOFError, ValueError, TypeError):
        compiled = compile_lowered(lowered, options)
    with write_beside(path) as beside:
        beside.write_bytes(gzip.compress(json.dumps(dataclasses.asdict(compiled)).encode()))
    return compiled


def _count_bytes(tree: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _shape(shape: tuple[int, ...], sharding: Any, dtype: Any = np.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
