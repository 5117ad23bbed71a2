"""LPIPS v0.1: the perceptual distance of Zhang et al. 2018, as the `lpips` package computes it."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.metric_nets.conversion import compute_fingerprint, convert_layers, take
from retroguide_jax.metric_nets.frozen import FrozenNet
from retroguide_jax.metric_nets.layers import Layers, list_layers
from retroguide_jax.metric_nets.torchvision_nets import TRUNKS

# ImageNet's mean and standard deviation on [-1, 1], rounded as in the package.
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)
_EPSILON = 1e-10
_LIST_SIZE = 64  # pixels; the trunks use the same layers at any size


def make_lpips(
    net: str, trunk_state: Mapping[str, np.ndarray], heads_state: Mapping[str, np.ndarray]
) -> FrozenNet:
    """LPIPS with one of its trunks, named lpips_NET.

    Its `apply(variables, generated, target)` takes uint8 [B, H, W, 3] twice and returns "distance",
    float32 [B], 0 for equal images, no upper bound; nothing is resized. It raises UserError on
    images too small for the trunk.

    Args:
      net: "alex", "vgg" or "squeeze".
      trunk_state: torchvision's weights of AlexNet, VGG16 or SqueezeNet 1.1, name -> float32.
      heads_state: the package's weights/v0.1/NET.pth: lin0.model.1.weight [1, channels, 1, 1] and
        so on, one per layer.

    Raises:
      UserError: no such net; arrays are missing or have another shape.
    """
    if net not in TRUNKS:
        raise UserError(f"no LPIPS trunk is called {net!r}; there are {', '.join(TRUNKS)}")
    trunk = TRUNKS[net]
    layers = list_layers(trunk.run, _LIST_SIZE, _LIST_SIZE)
    variables = convert_layers(trunk_state, layers, trunk.source)
    variables |= _convert_heads(heads_state, net)
    name = f"lpips_{net}"

    def apply(variables, generated, target):
        return {"distance": compute_distance(variables, net, generated, target)}

    protocol = f"LPIPS v0.1, {net}, on [-1, 1] at full size, mean over positions (lpips package)"
    return FrozenNet(name, compute_fingerprint(variables, name), protocol, variables, apply)


def compute_distance(
    variables: Mapping[str, jax.Array], net: str, generated: jax.Array, target: jax.Array
) -> jax.Array:
    """The sum over layers of the mean over positions of w . (u - v)^2, float32 [B].

    u and v are the two images' activations, of length 1 over channels; w is the layer's head.

    Args:
      variables: see `make_lpips`.
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images are too small for the trunk.
    """
    trunk = TRUNKS[net]
    height, width = generated.shape[1:3]
    if min(height, width) < trunk.min_size:
        raise UserError(
            f"lpips_{net} needs images of at least {trunk.min_size} x {trunk.min_size} pixels, "
            f"got {height} x {width}; leave it out, or resize the images"
        )
    images = jnp.concatenate([generated, target]).astype(jnp.float32) / 127.5 - 1.0
    activations = trunk.run(Layers(variables), (images - _SHIFT) / _SCALE)
    total = jnp.zeros(len(generated))
    for layer, activation in enumerate(activations):
        length = jnp.sqrt(jnp.sum(jnp.square(activation), axis=-1, keepdims=True))
        u, v = jnp.split(activation / (length + _EPSILON), 2)
        weighted = jnp.sum(jnp.square(u - v) * variables[f"lin{layer}"], axis=-1)
        total += jnp.mean(weighted, axis=(1, 2))
    return total


def _convert_heads(heads_state: Mapping[str, np.ndarray], net: str) -> dict[str, np.ndarray]:
    channels = enumerate(TRUNKS[net].channels)
    shapes = {f"lin{layer}.model.1.weight": (1, width, 1, 1) for layer, width in channels}
    heads = take(heads_state, shapes, f"lpips/weights/v0.1/{net}.pth")
    return {name.split(".")[0]: head.reshape(-1) for name, head in heads.items()}
