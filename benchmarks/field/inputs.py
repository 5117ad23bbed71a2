"""The inputs of both sides: the same images and the same weights.

Weights are the user's files where `retroguide weights list` finds them. Otherwise both sides get
the same random ones: these test the arithmetic, but the scores mean nothing.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

NUM_ROWS = 16  # images per device at a time, as in `retroguide evaluate`
_TESTS = Path(__file__).resolve().parents[2] / "tests"
# Test modules with formulas and weights that need none of the field's packages.
sys.path += [str(_TESTS / "metric_nets"), str(_TESTS / "metrics")]


def add_arguments(parser: argparse.ArgumentParser, num_images: int) -> None:
    """Adds the flags that `load_images` and `Weights` read."""
    parser.add_argument("--num_images", type=int, default=num_images, help="at most")
    parser.add_argument("--generated", type=Path, help="folder of images; needs --reference")
    parser.add_argument("--reference", type=Path, help="folder of images of the same names")
    parser.add_argument("--weights", type=Path, help="file or folder of weights to look in first")


def load_images(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """(generated, reference), uint8 [N, H, W, 3] each.

    Without folders: panoramas of procedural_city, 128 x 512, as the reference, and the same after
    blurring and JPEG at quality 10 as the generated images.

    Raises:
      UserError: only one folder is given; they do not match; sizes differ.
    """
    if args.generated or args.reference:
        from retroguide_jax.errors import UserError
        from retroguide_jax.evaluation.folders import match_folders

        if not (args.generated and args.reference):
            raise UserError("one folder is no comparison; give both --generated and --reference")
        pairs = match_folders(args.generated, args.reference)
        batch = next(pairs.read([range(min(args.num_images, len(pairs)))]))
        return batch["generated"], batch["reference"]
    from retroguide_jax.datasets.common.workers import OrderedPool

    with OrderedPool(min(len(os.sched_getaffinity(0)), args.num_images // 8)) as pool:
        reference = list(pool.map(render, range(args.num_images)))
    return np.stack([_spoil(image) for image in reference]), np.stack(reference)


def render(tile: int) -> np.ndarray:
    """The panorama of a test pair of city_256, uint8 [128, 512, 3]."""
    from retroguide_jax.datasets.procedural_city.pairs import SPLITS, View, render_pair

    # The aerial image is not used: render it as small as possible.
    view = View(aerial_size=16, ground_size=(128, 512), vertical_fov=180.0, cell_size=0.15)
    pair = render_pair(view, SPLITS[1], tile)
    return np.asarray(Image.open(io.BytesIO(pair["ground"])))


def _spoil(image: np.ndarray) -> np.ndarray:
    blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.5))
    buffer = io.BytesIO()
    blurred.save(buffer, "JPEG", quality=10)
    return np.asarray(Image.open(buffer))


class Weights:
    """State dicts by the names in `retroguide weights list`.

    Attributes:
      origin: name -> "real" or "random", for the state dicts requested so far.
    """

    def __init__(self, extra: Path | None):
        self._extra, self._states, self.origin = extra, {}, {}

    def get(self, name: str) -> dict[str, np.ndarray]:
        """name -> float32 array, in PyTorch's order of axes."""
        from random_weights import make_state

        from retroguide_jax.weights import files

        if name not in self._states:
            found = files.find(name, self._extra)
            self.origin[name] = "real" if found else "random"
            state = files.load(name, self._extra).arrays if found else None
            self._states[name] = state or make_state(_list_shapes(name))
        return self._states[name]

    def get_lpips(self, net: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(trunk, heads) of "alex", "vgg" or "squeeze"."""
        return self.get(_TRUNKS[net]), self.get(f"lpips_{net}")


_TRUNKS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet"}


def _list_shapes(name: str) -> dict[str, tuple[int, ...]]:
    from retroguide_jax.metric_nets import inception
    from retroguide_jax.metric_nets.conversion import to_torch_shape
    from retroguide_jax.metric_nets.layers import list_layers
    from retroguide_jax.metric_nets.torchvision_nets import TRUNKS

    if name == "inception":
        shapes = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
        for layer, shape in list_layers(inception._run, inception.SIZE, inception.SIZE).items():
            shapes[f"{layer}.conv.weight"] = to_torch_shape(shape)
            for norm in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{layer}.bn.{norm}"] = shape[-1:]
        return shapes
    if name.startswith("lpips_"):
        channels = TRUNKS[name.removeprefix("lpips_")].channels
        return {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(channels)}
    trunk = TRUNKS[next(net for net, file in _TRUNKS.items() if file == name)]
    layers = list_layers(trunk.run, 64, 64)
    shapes = {f"{layer}.weight": to_torch_shape(shape) for layer, shape in layers.items()}
    return shapes | {f"{layer}.bias": shape[-1:] for layer, shape in layers.items()}


def compile_rows(
    apply_fn: Callable[..., Any], variables: Any = None
) -> Callable[..., dict[str, np.ndarray]]:
    """Compiles our side as the evaluation job does: on all devices, 16 images per device.

    Args:
      apply_fn: (variables, *images uint8 [B, H, W, 3]) -> {name: [B, ...]}.
      variables: its weights.

    Returns:
      A function of images [N, H, W, 3], for any N, that returns {name: [N, ...]} on the host.
    """
    from retroguide_jax.parallel.local import LocalDevices

    devices = LocalDevices()
    compiled, variables = devices.compile(apply_fn), devices.replicate(variables or {})

    def run(*images: np.ndarray) -> dict[str, np.ndarray]:
        num = len(images[0])
        num_rows = min(NUM_ROWS * devices.num_devices, num)
        parts = []
        for start in range(0, num, num_rows):
            batch = [array[start : start + num_rows] for array in images]
            fill = num_rows - len(batch[0])  # so that every batch has one shape
            batch = [np.concatenate([array, array[-1:].repeat(fill, 0)]) for array in batch]
            parts.append(compiled(variables, *devices.spread(*batch)))
        return {
            name: np.concatenate([np.asarray(part[name])[:num_rows] for part in parts])[:num]
            for name in parts[0]
        }

    return run
