"""AlexNet-Places365: the classifier behind the KL score and the accuracies of the GAN papers.

Preprocessing as in X-Fork's and SelectionGAN's KL_model_data.py: the shorter side is resized to 256
pixels by Pillow's bilinear, the central 224 x 224 pixels are cropped (of a panorama, only the
middle square is seen), and the image is normalised by ImageNet's mean and standard deviation.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.metric_nets.conversion import compute_fingerprint, convert_layers
from retroguide_jax.metric_nets.frozen import FrozenNet
from retroguide_jax.metric_nets.layers import Layers, list_layers
from retroguide_jax.metric_nets.resize import make_pillow_bilinear, resize_uint8
from retroguide_jax.metric_nets.torchvision_nets import classify_alexnet

NUM_CLASSES = 365
_SIDE, _CROP = 256, 224
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_SOURCE = "alexnet_places365.pth.tar"
_FEATURE_GRID = (256, 6, 6)  # of the features that PyTorch flattens, channels first


def make_places(state_dict: Mapping[str, np.ndarray]) -> FrozenNet:
    """The classifier, named places.

    Its `apply(variables, images)` takes uint8 [B, H, W, 3] and returns "probabilities", float32
    [B, 365].

    Args:
      state_dict: name -> float32 array, as in the file but without "module." in the names.

    Raises:
      UserError: arrays are missing or have another shape.
    """
    variables = convert_places(state_dict)

    def apply(variables, images):
        logits = _run(Layers(variables), preprocess(images))
        return {"probabilities": jax.nn.softmax(logits)}

    protocol = (
        "AlexNet-Places365; shorter side to 256 by Pillow's bilinear, central 224x224, ImageNet's "
        "mean and deviation (X-Fork, SelectionGAN)"
    )
    return FrozenNet("places", compute_fingerprint(variables, "places"), protocol, variables, apply)


def convert_places(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts to NAME.weight [kh, kw, in, out] or [in, out] and NAME.bias of each layer.

    Raises:
      UserError: arrays are missing or have another shape.
    """
    variables = convert_layers(state_dict, list_layers(_run, _CROP, _CROP), _SOURCE)
    first = variables["classifier.1.weight"]
    channels_last = first.reshape(*_FEATURE_GRID, -1).transpose(1, 2, 0, 3)
    variables["classifier.1.weight"] = np.ascontiguousarray(channels_last.reshape(first.shape))
    return variables


def preprocess(images: jax.Array) -> jax.Array:
    """uint8 [B, H, W, 3] to normalised float32 [B, 224, 224, 3]."""
    height, width = images.shape[1:3]
    shorter = min(height, width)
    rows = _make_matrix(height, int(_SIDE * height / shorter))
    columns = _make_matrix(width, int(_SIDE * width / shorter))
    x = resize_uint8(images, rows, columns).astype(jnp.float32)
    return (x / 255.0 - _MEAN) / _DEVIATION


def _make_matrix(num_in: int, num_resized: int) -> np.ndarray:
    # Rounds half to even, as torchvision's CenterCrop does.
    start = round((num_resized - _CROP) / 2)
    return make_pillow_bilinear(num_in, num_resized)[start : start + _CROP]


def _run(net: Layers, x: jax.Array) -> jax.Array:
    return classify_alexnet(net, x, NUM_CLASSES)
