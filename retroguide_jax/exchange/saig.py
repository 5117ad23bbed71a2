"""The weight layout of SAIG's public PyTorch code (Zhu, Yang et al., arXiv 2302.01572).

Two kinds of files exist: a pair of towers with their heads (`model_grd.*`, `model_sat.*`), and a
tower pretrained on ImageNet, from which both towers then start.
"""

import math
import re
from collections.abc import Mapping

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.exchange.weight_layouts import Source, find_prefix
from retroguide_jax.torch_layout.names import name_leaf

_VIEWS = {"aerial": "model_sat", "ground": "model_grd"}
_POSITION = "pos_embed"
_NOTE = (
    "SAIG pads with zeros; with config.data.panorama=true our ground tower joins the ends of the "
    "panorama instead. Its --polar=1 takes aerials in polar coordinates, on another grid of as "
    "many tokens: such a file does not say so, and nothing here makes such images"
)


def open_source(arrays: Mapping[str, np.ndarray]) -> Source:
    """The arrays as those of an embedder with backbone saig.

    The position embedding of a pretrained tower is read as a square [s, s, C], as its authors do.

    Raises:
      UserError: the file holds neither a pair of towers nor one tower, or holds several.
    """
    is_plain = any(name.startswith("model_grd.") for name in arrays)
    pair = "" if is_plain else find_prefix(arrays, f"model_grd.backbone.{_POSITION}")
    is_pair = pair is not None
    prefix = pair if is_pair else find_prefix(arrays, _POSITION)
    if prefix is None:
        raise UserError(
            f"not SAIG's layout: neither model_grd.* nor {_POSITION} is there; "
            f"the file begins with {min(arrays)}"
        )
    arrays, remarks = dict(arrays), {}
    if not is_pair:
        position = arrays[prefix + _POSITION]
        side = math.isqrt(position.shape[1]) if position.ndim == 3 else 0
        if position.shape == (1, side * side, *position.shape[2:]):
            arrays[prefix + _POSITION] = position.reshape(side, side, position.shape[2])
            remarks[prefix + _POSITION] = f"{side * side} tokens taken as a square"

    def name_array(name: str) -> str | None:
        inner = _name(name, is_pair)
        return inner and prefix + inner

    return Source(arrays, name_array, remarks, _NOTE)


def _name(name: str, is_pair: bool) -> str | None:
    match = re.fullmatch(r"embedder/(towers|heads)_(aerial|ground)/(.+)", name)
    if not match:
        return None
    part, view, path = match.groups()
    if part == "heads":
        inner = _name_in_head(path)
        return f"{_VIEWS[view]}.{inner}" if is_pair and inner else None
    inner = _name_in_tower(path)
    return f"{_VIEWS[view]}.backbone.{inner}" if is_pair and inner else inner


def _name_in_head(path: str) -> str | None:
    match = re.fullmatch(r"Dense_(\d)/(\w+)", path)
    return match and f"linear{int(match[1]) + 1}.{name_leaf(match[2])}"


def _name_in_tower(path: str) -> str | None:
    if path == "position":
        return _POSITION
    module, _, leaf = path.rpartition("/")
    leaf = name_leaf(leaf)
    if module == "norm":
        return f"norm.{leaf}"
    # The stem is one nn.Sequential that cycles through convolution, normalisation, activation.
    if match := re.fullmatch(r"stem/(Conv|BatchNorm)_(\d+)", module):
        index = 3 * int(match[2]) + (match[1] == "BatchNorm")
        return f"patch_embed.conv_stem.{index}.{leaf}"
    if match := re.fullmatch(r"block_(\d+)/LayerNorm_0", module):
        return f"blocks.{match[1]}.norm1.{leaf}"
    if match := re.fullmatch(r"block_(\d+)/(qkv|proj)", module):
        return f"blocks.{match[1]}.attn.{match[2]}.{leaf}"
    return None
