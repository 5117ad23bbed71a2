"""The weight layout of timm's ConvNeXt, alone or inside others (Sample4Geo, arXiv 2303.11851).

With the same weights, its features before the last normalisation equal ours.
"""

import re
from collections.abc import Mapping

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.exchange.weight_layouts import Source, find_prefix
from retroguide_jax.torch_layout.names import name_leaf

# Normalisation of the images that timm's ConvNeXts were trained on: RGB in [0, 1].
_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])
_SCALE = "logit_scale"
_NOTE = (
    "timm normalises the mean of the tokens, the embedder each token: features are equal before "
    "that, embeddings are not"
)
_MODULES = (
    (r"stem", r"stem.0"),
    (r"stem_norm", r"stem.1"),
    (r"downsample_(\d+)_norm", r"stages.\1.downsample.0"),
    (r"downsample_(\d+)", r"stages.\1.downsample.1"),
    (r"stage_(\d+)_block_(\d+)", r"stages.\1.blocks.\2"),
    (r"stage_(\d+)_block_(\d+)/depthwise", r"stages.\1.blocks.\2.conv_dw"),
    (r"stage_(\d+)_block_(\d+)/norm", r"stages.\1.blocks.\2.norm"),
    (r"stage_(\d+)_block_(\d+)/expand", r"stages.\1.blocks.\2.mlp.fc1"),
    (r"stage_(\d+)_block_(\d+)/project", r"stages.\1.blocks.\2.mlp.fc2"),
)


def open_source(arrays: Mapping[str, np.ndarray]) -> Source:
    """The arrays as those of an embedder with backbone convnext; both towers get the same.

    The first convolution is converted to take images in [-1, 1].

    Raises:
      UserError: the file has no ConvNeXt stem, or has several.
    """
    prefix = find_prefix(arrays, "stem.0.weight") or ""
    weight, bias = (f"{prefix}stem.0.{leaf}" for leaf in ("weight", "bias"))
    shapes = [np.shape(arrays.get(name)) for name in (weight, bias)]  # pyright: ignore[reportArgumentType, reportCallIssue]
    if shapes[0][1:] != (3, 4, 4) or shapes[1] != shapes[0][:1]:
        raise UserError(
            f"not the layout of timm's ConvNeXt: no stem.0.weight [C, 3, 4, 4] with its bias; "
            f"the file begins with {min(arrays)}"
        )
    folded = _fold_normalisation(arrays[weight], arrays[bias])
    arrays = {**arrays, weight: folded[0], bias: folded[1]}
    remarks = dict.fromkeys((weight, bias), "ImageNet's normalisation of images folded in")
    # Models with norm_pre normalise each token, as ours do.
    norm = "norm_pre" if f"{prefix}norm_pre.weight" in arrays else "head.norm"
    note = _NOTE if norm == "head.norm" else ""
    scale = prefix.removesuffix("model.") + _SCALE
    return Source(arrays, lambda name: _name(name, prefix, norm, scale), remarks, note)


def _fold_normalisation(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts a convolution of ((x + 1) / 2 - mean) / std to one of x in [-1, 1].

    It has no padding, so the conversion is exact at the edges too. Computed in float64.
    """
    wide = weight.astype(np.float64)
    offset = (0.5 - _MEAN) / _STD
    shifted = bias + np.einsum("ochw,c->o", wide, offset)
    return (wide / (2 * _STD)[:, None, None]).astype(np.float32), shifted.astype(np.float32)


def _name(name: str, prefix: str, norm: str, scale: str) -> str | None:
    if name == "embedder/log_scale":
        return scale
    match = re.fullmatch(r"embedder/towers_(?:aerial|ground)/([\w/]+)/(\w+)", name)
    if not match:
        return None
    module, leaf = match.groups()
    inner = norm if module == "norm" else _name_module(module)
    leaf = "gamma" if leaf == "layer_scale" else name_leaf(leaf)
    return inner and f"{prefix}{inner}.{leaf}"


def _name_module(module: str) -> str | None:
    for pattern, template in _MODULES:
        if match := re.fullmatch(pattern, module):
            return match.expand(template)
    return None
