"""The names and shapes that benchmarks/torch_reference gives to the parameters of our networks.

A Linen path becomes a PyTorch name part by part: `structure_1/AttentionalAdaIN_0/gate/kernel` is
`structure.1.adain.0.gate.weight`. Numbers are those of a ModuleList. Only the order of axes differs:
a convolution's kernel is [k, k, in, out] here and [out, in, k, k] there, a matrix is transposed.
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
    "RegionMask": "mask",
    "RegionModulation": "modulation",
}
_LEAVES = {"kernel": "weight", "mean": "running_mean", "var": "running_var"}
_VIEWS = re.compile(r"(towers|heads)_(aerial|ground)")


def name_parameter(path: str) -> str:
    """The PyTorch name of a Linen path, which is joined by slashes."""
    *modules, leaf = path.split("/")
    is_norm = bool(modules) and bool(re.match("(Batch|Group|Layer)Norm_|norm$", modules[-1]))
    parts = []
    for module in modules:
        view, numbered = _VIEWS.fullmatch(module), re.fullmatch(r"(\w+)_(\d+)", module)
        if view:
            parts += view.groups()
        elif numbered:
            parts += [_MODULES.get(numbered[1], numbered[1]), numbered[2]]
        else:
            parts.append(module)
    leaf = "weight" if leaf == "scale" and is_norm else _LEAVES.get(leaf, leaf)
    return ".".join([*parts, leaf])
