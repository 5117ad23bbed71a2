"""PyTorch's names for our networks' arrays: those of benchmarks/torch_reference.

A Linen path becomes a PyTorch name part by part: `structure_1/AttentionalAdaIN_0/gate/kernel` is
`structure.1.adain.0.gate.weight`, where numbers are indices of a ModuleList. Only the order of axes
differs: a convolution's kernel is [k, k, in, out] here and [out, in, k, k] in PyTorch, and a matrix
is transposed.
"""

import re

_MODULES = {
    "AttentionalAdaIN": "adain",
    "BatchNorm": "norm",
    "Conv": "conv",
    "Dense": "dense",
    "GroupNorm": "norm",
    "LayerNorm": "norm",
    "NoiseInjection": "noise",
    "RMSNorm": "norm",
    "RegionMask": "mask",
    "RegionModulation": "modulation",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_VIEWS = re.compile(r"(towers|heads)_(aerial|ground)")


def name_parameter(path: str) -> str:
    """The PyTorch name for a Linen path, whose parts are joined by slashes."""
    *modules, leaf = path.split("/")
    is_norm = bool(modules) and bool(re.search(r"Norm_\d+$|norm$", modules[-1]))
    parts = []
    for module in modules:
        view, numbered = _VIEWS.fullmatch(module), re.fullmatch(r"(\w+)_(\d+)", module)
        if view:
            parts += view.groups()
        elif numbered:
            parts += [_MODULES.get(numbered[1], numbered[1]), numbered[2]]
        else:
            parts.append(module)
    # NoiseInjection's weights are called scale in the PyTorch reference too.
    leaf = leaf if leaf == "scale" and not is_norm else name_leaf(leaf)
    return ".".join([*parts, leaf])


def name_leaf(leaf: str) -> str:
    """PyTorch's name for a parameter or statistic of ours: `weight` for `kernel`."""
    return _LEAVES.get(leaf, leaf)
