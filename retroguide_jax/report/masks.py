"""Maps of where the embedding modulates the generator, and of the regions it distinguishes."""

import dataclasses

import jax
import numpy as np
from flax import traverse_util

from retroguide_jax.data.images import to_uint8
from retroguide_jax.inference import Model


@dataclasses.dataclass(frozen=True)
class Layer:
    """A map that one layer of the generator computes for each image.

    Attributes:
      kind: "gate", A of Attentional AdaIN: 1 where the embedding modulates, 0 where the style does;
        or "mask", m of a facade block, for one of its regions.
      name: of the block and of the layer or region in it.
      maps: float32 [B, h, w] in [0, 1].
    """

    kind: str
    name: str
    maps: np.ndarray


def draw_maps(model: Model, source: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, list[Layer]]:
    """Generates images with the maps of all layers, from low to high resolution.

    Gates per channel have no spatial extent and are left out: a generator whose `aain_form` is not
    `mask` has no gates, and one without regions has no masks.

    Args:
      model: with a generator.
      source: [B, H, W, 3], uint8 in [0, 255] or float32 in [-1, 1].
      z: float32 [B, z_dim].

    Returns:
      (uint8 [B, H', W', 3], layers).
    """
    # This program runs once: optimising it would take longer than running it unoptimised.
    options = {"xla_backend_optimization_level": 0}
    draw = jax.jit(
        model.generate_rows_with_maps,
        compiler_options=options if jax.default_backend() == "cpu" else None,
    )
    images, maps = draw(model.variables, source, z)
    flat = traverse_util.flatten_dict(maps)
    arrays = {path: np.asarray(value[0], np.float32) for path, value in flat.items()}  # pyright: ignore[reportIndexIssue]
    placed = {path: array for path, array in arrays.items() if array.shape[1:3] != (1, 1)}
    # The facade stage follows the structure stage, but precedes it in the alphabet.
    order = sorted(
        placed, key=lambda path: (path[0].startswith("facade"), placed[path].shape[1], path)
    )
    layers = [layer for path in order for layer in _split(path, placed[path])]
    return to_uint8(np.asarray(images)), layers


def _split(path: tuple[str, ...], array: np.ndarray) -> list[Layer]:
    kind = path[-1].removesuffix("s")  # "gates", "masks"
    block, num = path[0].replace("_", " "), array.shape[-1]
    if num > 1:
        names = [f"{block}, region {k + 1} of {num}" for k in range(num)]
    else:
        names = [f"{block} layer {path[1].rpartition('_')[2]}" if kind == "gate" else block]
    return [Layer(kind, name, array[..., k]) for k, name in enumerate(names)]
