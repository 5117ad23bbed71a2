"""Makes golden_saig.npz: what SAIG's public code says on the weights of layout_arrays.py.

Run in an environment with torch, beside a checkout of github.com/yanghongji2007/SAIG (made with its
commit feaad69), which brings a timm of its own:

    PYTHONPATH=SAIG:SAIG/pytorch-image-models python tests/exchange/make_saig_golden.py
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from layout_arrays import fill, make_images
from model.model import twoviewmodel
from timm.models.SAIG import VisionTransformer


def make_tower(size):
    tower = VisionTransformer(img_size=size, embed_dim=24, depth=2, num_heads=3, num_classes=0)
    return tower.eval()


def main():
    found = {}
    sizes = (128, 512), (256, 256)
    images = [torch.from_numpy(make_images(*size).transpose(0, 3, 1, 2)) for size in sizes]
    for pool in ("GAP", "SMD"):
        model = twoviewmodel(*map(make_tower, sizes), SimpleNamespace(pool=pool))
        found[f"{pool}_shapes"] = fill(model)
        with torch.no_grad():
            found[f"{pool}_ground"], found[f"{pool}_aerial"] = model(*images)
    np.savez_compressed(Path(__file__).with_name("golden_saig.npz"), **found)


if __name__ == "__main__":
    main()
