"""Makes golden_timm.npz: what timm's own ConvNeXt says on the weights of layout_arrays.py.

Run in an environment with torch and timm (made with 1.0.31):

    python tests/exchange/make_timm_golden.py
"""

from pathlib import Path

import numpy as np
import torch
from layout_arrays import fill, make_images
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.convnext import ConvNeXt


def normalise(images):
    """Images in [-1, 1] as timm's networks take them."""
    normal = ((images + 1) / 2 - np.array(IMAGENET_DEFAULT_MEAN)) / np.array(IMAGENET_DEFAULT_STD)
    return torch.from_numpy(normal.transpose(0, 3, 1, 2)).float()


def main():
    model = ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=5)
    shapes = fill(model)
    with torch.no_grad():
        images = normalise(make_images(64, 96))
        features = model.forward_features(images)
        pooled = model.forward_head(features, pre_logits=True)
    path = Path(__file__).with_name("golden_timm.npz")
    np.savez_compressed(path, shapes=shapes, features=features, pooled=pooled)


if __name__ == "__main__":
    main()
