"""torchvision's AlexNet, VGG16 and SqueezeNet 1.1, as far as metrics use them.

Each trunk takes float32 [B, H, W, 3], normalised as its metric requires, and returns the
activations [B, H', W', C] that LPIPS compares, after ReLU, in order of depth (Zhang et al., "The
unreasonable effectiveness of deep features as a perceptual metric", 2018).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from retroguide_jax.metric_nets.layers import Layers, max_pool


def run_alexnet(net: Layers, x: jax.Array) -> list[jax.Array]:
    """AlexNet: five activations."""
    taps = [net.conv("features.0", x, 64, 11, stride=4, padding=2)]
    taps.append(net.conv("features.3", max_pool(taps[-1]), 192, 5))
    taps.append(net.conv("features.6", max_pool(taps[-1]), 384, 3))
    taps.append(net.conv("features.8", taps[-1], 256, 3))
    taps.append(net.conv("features.10", taps[-1], 256, 3))
    return taps


def classify_alexnet(net: Layers, x: jax.Array, num_classes: int) -> jax.Array:
    """AlexNet with its classifier: float32 [B, 224, 224, 3] to logits [B, num_classes]."""
    x = max_pool(run_alexnet(net, x)[-1])
    x = x.reshape(len(x), -1)
    x = jax.nn.relu(net.dense("classifier.1", x, 4096))
    x = jax.nn.relu(net.dense("classifier.4", x, 4096))
    return net.dense("classifier.6", x, num_classes)


def run_vgg16(net: Layers, x: jax.Array) -> list[jax.Array]:
    """VGG16: the last activation before each of its five pools."""
    taps = []
    stages = ((64, (0, 2)), (128, (5, 7)), (256, (10, 12, 14)), (512, (17, 19, 21)))
    for features, indices in (*stages, (512, (24, 26, 28))):
        if taps:
            x = max_pool(x, size=2)
        for index in indices:
            x = net.conv(f"features.{index}", x, features, 3)
        taps.append(x)
    return taps


def run_squeezenet(net: Layers, x: jax.Array) -> list[jax.Array]:
    """SqueezeNet 1.1: seven activations."""
    taps = [net.conv("features.0", x, 64, 3, stride=2, padding=0)]
    stages = (((3, 16, 64), (4, 16, 64)), ((6, 32, 128), (7, 32, 128)), ((9, 48, 192),))
    for fires in stages:
        x = max_pool(taps[-1], ceil=True)
        for index, squeezed, expanded in fires:
            x = _fire(net.scope(f"features.{index}"), x, squeezed, expanded)
        taps.append(x)
    for index, squeezed, expanded in ((10, 48, 192), (11, 64, 256), (12, 64, 256)):
        taps.append(_fire(net.scope(f"features.{index}"), taps[-1], squeezed, expanded))
    return taps


@dataclasses.dataclass(frozen=True)
class Trunk:
    """A trunk of LPIPS.

    Attributes:
      run: function of (layers, images) that returns the activations; see the top of this file.
      channels: number of channels of each activation.
      min_size: shortest side of an image, in pixels, that leaves a pixel in the last activation.
      source: torchvision's file with its weights.
    """

    run: Callable[[Layers, jax.Array], list[jax.Array]]
    channels: tuple[int, ...]
    min_size: int
    source: str


TRUNKS = {
    "alex": Trunk(run_alexnet, (64, 192, 384, 256, 256), 31, "alexnet-owt-7be5be79.pth"),
    "vgg": Trunk(run_vgg16, (64, 128, 256, 512, 512), 16, "vgg16-397923af.pth"),
    "squeeze": Trunk(
        run_squeezenet, (64, 128, 256, 384, 384, 512, 512), 17, "squeezenet1_1-b8a52dc0.pth"
    ),
}


def _fire(net: Layers, x: jax.Array, squeezed: int, expanded: int) -> jax.Array:
    x = net.conv("squeeze", x, squeezed)
    parts = [net.conv("expand1x1", x, expanded), net.conv("expand3x3", x, expanded, 3)]
    return jnp.concatenate(parts, axis=-1)
