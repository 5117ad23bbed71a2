"""Small folders of pairs for the data tests, and the `config.data` that reads them."""

import numpy as np
from ml_collections import ConfigDict
from PIL import Image


def write_pairs(root, num_pairs, aerial_size=(16, 16), ground_size=(8, 32)):
    """Writes pairs whose flat colour is their number, so that decoded images are identifiable."""
    for view, size in (("aerial", aerial_size), ("ground", ground_size)):
        (root / view).mkdir(parents=True, exist_ok=True)
        for number in range(num_pairs):
            flat = np.full((*size, 3), number, np.uint8)
            Image.fromarray(flat).save(root / view / f"{number:03d}.png")
    return root


def make_data_config(raw_dir, **fields):
    """The `config.data` of the written pairs."""
    return ConfigDict(
        {
            "name": "image_pairs",
            "config_name": "",
            "raw_dir": str(raw_dir),
            "allow_bad": False,
            "store_resized": False,
            "crop_metres": 30.0,
            "crop_outside": "drop",
            "train_split": "train",
            "val_split": "val",
            "aerial_size": (16, 16),
            "ground_size": (8, 32),
            "augment": True,
            "panorama": True,
            "num_threads": 2,
        }
        | fields
    )
