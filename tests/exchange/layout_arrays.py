"""Weights and images from names and shapes alone: the same here and in the make_*_golden.py.

NumPy's RandomState draws the same numbers in all its releases.
"""

import json
import zlib

import numpy as np


def make_array(name, shape):
    """A float32 array for a PyTorch state dict, far from its usual initial value."""
    draw = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return draw.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) < 2:
        return draw.normal(0, 0.3, shape).astype(np.float32)
    return draw.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)


def make_state(shapes):
    return {name: make_array(name, tuple(shape)) for name, shape in shapes.items()}


def make_images(height, width):
    """Floats [1, height, width, 3] in [-1, 1]."""
    draw = np.random.RandomState(height * width)
    return draw.uniform(-1, 1, (1, height, width, 3)).astype(np.float32)


def fill(module):
    """Gives a PyTorch module its weights; returns the shapes of those that are floats, as JSON."""
    import torch

    state = module.state_dict()
    shapes = {name: list(value.shape) for name, value in state.items() if value.is_floating_point()}
    arrays = {name: torch.from_numpy(array) for name, array in make_state(shapes).items()}
    module.load_state_dict(state | arrays)
    module.eval()
    return json.dumps(shapes)
