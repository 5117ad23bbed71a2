"""The Inception network behind FID, KID and Inception Score, with the preprocessings in use.

The network is the Inception v3 of TensorFlow's 2015-12-05 graph, in the PyTorch port that
pytorch-fid publishes (Heusel et al., "GANs trained by a two time-scale update rule", 2017). It
differs from torchvision's in three points: 1008 classes, average pooling that excludes the padding,
and a max pool in the last block.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.metric_nets import resize
from retroguide_jax.metric_nets.conversion import (
    compute_fingerprint,
    fold_batch_norm,
    from_torch,
    take,
    to_torch_shape,
)
from retroguide_jax.metric_nets.frozen import FrozenNet
from retroguide_jax.metric_nets.layers import PRECISION, Layers, list_layers, max_pool

SIZE = 299
_SOURCE = "pt_inception-2015-12-05-6726825d.pth (pytorch-fid's port)"
_NUM_FEATURES, _NUM_CLASSES = 2048, 1008
_EPSILON = 0.001  # of the batch normalisations


@dataclasses.dataclass(frozen=True)
class _Preprocessing:
    """Resize to 299 x 299 on 0..255, then (x - centre) / half."""

    matrix_fn: Callable[[int, int], np.ndarray]
    centre: float
    half: float
    protocol: str
    clipped: bool = False


PREPROCESSINGS = {
    "pytorch": _Preprocessing(
        resize.make_bilinear,
        127.5,
        127.5,
        "bilinear to 299x299 without antialiasing, 2 x / 255 - 1 (pytorch-fid)",
    ),
    "tf": _Preprocessing(
        resize.make_bilinear_tf1,
        128.0,
        128.0,
        "TensorFlow 1's bilinear to 299x299, (x - 128) / 128 (torch-fidelity; torchmetrics with "
        "antialias=False)",
    ),
    "torchmetrics": _Preprocessing(
        resize.make_pillow_bilinear,
        128.0,
        128.0,
        "bilinear to 299x299 with antialiasing, (x - 128) / 128 (torchmetrics' default)",
    ),
    "clean": _Preprocessing(
        resize.make_pillow_bicubic,
        128.0,
        128.0,
        "Pillow's bicubic to 299x299 with antialiasing in float, clipped to 0..255, "
        "(x - 128) / 128 (clean-fid)",
        clipped=True,
    ),
}


def make_inception(state_dict: Mapping[str, np.ndarray], preprocessing: str) -> FrozenNet:
    """The network from pytorch-fid's weights, named inception_PREPROCESSING.

    Its `apply(variables, images)` takes uint8 [B, H, W, 3] and returns "features" [B, 2048], the
    last average pool, and "logits" [B, 1008] without the bias of the last layer, from which
    Inception Scores are computed (torch-fidelity's logits_unbiased).

    Args:
      state_dict: name -> float32 array, as in the file.
      preprocessing: a key of `PREPROCESSINGS`.

    Raises:
      UserError: no such preprocessing; arrays are missing or have another shape.
    """
    if preprocessing not in PREPROCESSINGS:
        raise UserError(
            f"no Inception preprocessing is called {preprocessing!r}; "
            f"there are {', '.join(PREPROCESSINGS)}"
        )
    chosen = PREPROCESSINGS[preprocessing]
    name = f"inception_{preprocessing}"
    variables = convert_inception(state_dict)

    def apply(variables, images):
        features = compute_features(variables, preprocess(images, chosen))
        logits = jnp.matmul(features, variables["fc.weight"], precision=PRECISION)
        return {"features": features, "logits": logits}

    fingerprint = compute_fingerprint(variables, name)
    return FrozenNet(
        name, fingerprint, f"Inception 2015-12-05; {chosen.protocol}", variables, apply
    )


def convert_inception(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Folds the batch normalisations: NAME.weight [kh, kw, in, out] and NAME.bias of each layer.

    fc.weight is [2048, 1008].

    Raises:
      UserError: arrays are missing or have another shape.
    """
    layers = list_layers(_run, SIZE, SIZE)
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (_NUM_CLASSES, _NUM_FEATURES)}
    norms = ("weight", "bias", "running_mean", "running_var")
    for name, shape in layers.items():
        shapes[f"{name}.conv.weight"] = to_torch_shape(shape)
        shapes |= {f"{name}.bn.{norm}": shape[-1:] for norm in norms}
    state = take(state_dict, shapes, _SOURCE)
    variables = {"fc.weight": from_torch(state["fc.weight"])}
    for name in layers:
        scale, offset, mean, variance = (state[f"{name}.bn.{norm}"] for norm in norms)
        weight, bias = fold_batch_norm(
            state[f"{name}.conv.weight"], scale, offset, mean, variance, _EPSILON
        )
        variables |= {f"{name}.weight": from_torch(weight), f"{name}.bias": bias}
    return variables


def preprocess(images: jax.Array, preprocessing: _Preprocessing) -> jax.Array:
    """uint8 [B, H, W, 3] to float32 [B, 299, 299, 3] in about [-1, 1]."""
    rows, columns = (preprocessing.matrix_fn(size, SIZE) for size in images.shape[1:3])
    x = resize.resize(images.astype(jnp.float32), rows, columns)
    if preprocessing.clipped:
        x = jnp.clip(x, 0, 255)
    return (x - preprocessing.centre) / preprocessing.half


def compute_features(variables: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """float32 [B, 299, 299, 3] in [-1, 1] to the features [B, 2048]."""
    return _run(Layers(variables), x)


def _run(net: Layers, x: jax.Array) -> jax.Array:
    x = net.conv("Conv2d_1a_3x3", x, 32, 3, stride=2, padding=0)
    x = net.conv("Conv2d_2a_3x3", x, 32, 3, padding=0)
    x = max_pool(net.conv("Conv2d_2b_3x3", x, 64, 3))
    x = net.conv("Conv2d_3b_1x1", x, 80)
    x = max_pool(net.conv("Conv2d_4a_3x3", x, 192, 3, padding=0))
    for block, pool_features in (("5b", 32), ("5c", 64), ("5d", 64)):
        x = _mix_35(net.scope(f"Mixed_{block}"), x, pool_features)
    x = _shrink_35(net.scope("Mixed_6a"), x)
    for block, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        x = _mix_17(net.scope(f"Mixed_{block}"), x, width)
    x = _shrink_17(net.scope("Mixed_7a"), x)
    x = _mix_8(net.scope("Mixed_7b"), x, averaged=True)
    x = _mix_8(net.scope("Mixed_7c"), x, averaged=False)
    return jnp.mean(x, axis=(1, 2))


# Blocks are named after the side of their input in pixels; their layers have torchvision's names.


def _mix_35(net, x, pool_features):
    names = {"branch1x1": 64, "branch5x5_1": 48, "branch3x3dbl_1": 64, "branch_pool": pool_features}
    direct, five, three, pool = net.conv_shared(names, x, pooled="branch_pool")
    five = net.conv("branch5x5_2", five, 64, 5)
    three = net.conv("branch3x3dbl_2", three, 96, 3)
    three = net.conv("branch3x3dbl_3", three, 96, 3)
    return jnp.concatenate([direct, five, three, pool], axis=-1)


def _shrink_35(net, x):
    three = net.conv("branch3x3", x, 384, 3, stride=2, padding=0)
    double = net.conv("branch3x3dbl_1", x, 64)
    double = net.conv("branch3x3dbl_2", double, 96, 3)
    double = net.conv("branch3x3dbl_3", double, 96, 3, stride=2, padding=0)
    return jnp.concatenate([three, double, max_pool(x)], axis=-1)


def _mix_17(net, x, width):
    names = {"branch1x1": 192, "branch7x7_1": width, "branch7x7dbl_1": width, "branch_pool": 192}
    direct, seven, double, pool = net.conv_shared(names, x, pooled="branch_pool")
    seven = net.conv("branch7x7_2", seven, width, (1, 7))
    seven = net.conv("branch7x7_3", seven, 192, (7, 1))
    double = net.conv("branch7x7dbl_2", double, width, (7, 1))
    double = net.conv("branch7x7dbl_3", double, width, (1, 7))
    double = net.conv("branch7x7dbl_4", double, width, (7, 1))
    double = net.conv("branch7x7dbl_5", double, 192, (1, 7))
    return jnp.concatenate([direct, seven, double, pool], axis=-1)


def _shrink_17(net, x):
    three, seven = net.conv_shared({"branch3x3_1": 192, "branch7x7x3_1": 192}, x)
    three = net.conv("branch3x3_2", three, 320, 3, stride=2, padding=0)
    seven = net.conv("branch7x7x3_2", seven, 192, (1, 7))
    seven = net.conv("branch7x7x3_3", seven, 192, (7, 1))
    seven = net.conv("branch7x7x3_4", seven, 192, 3, stride=2, padding=0)
    return jnp.concatenate([three, seven, max_pool(x)], axis=-1)


def _mix_8(net, x, averaged):
    names = {"branch1x1": 320, "branch3x3_1": 384, "branch3x3dbl_1": 448}
    if averaged:
        names["branch_pool"] = 192
        direct, three, double, pool = net.conv_shared(names, x, pooled="branch_pool")
    else:
        direct, three, double = net.conv_shared(names, x)
        pool = net.conv("branch_pool", max_pool(x, stride=1, padding=1), 192)
    double = net.conv("branch3x3dbl_2", double, 384, 3)
    crosses = []
    for name, branch in (("branch3x3_2", three), ("branch3x3dbl_3", double)):
        crosses.append(net.conv(f"{name}a", branch, 384, (1, 3)))
        crosses.append(net.conv(f"{name}b", branch, 384, (3, 1)))
    return jnp.concatenate([direct, *crosses, pool], axis=-1)
