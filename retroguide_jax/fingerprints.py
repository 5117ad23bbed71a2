"""Digests that identify the inputs of a result: texts, configs, data sets, weights."""

import hashlib
import json
from typing import Any

import jax
import numpy as np

from retroguide_jax.config import config_to_json

_SHORT = 16  # hexadecimal digits of a digest that is shown beside a score


def hash_text(text: str) -> str:
    """Short hexadecimal digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:_SHORT]


def hash_weights(tree: Any) -> str:
    """SHA-256 (hexadecimal) of the arrays of a tree, with their names, types and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def hash_config(config: Any) -> str:
    """Short digest of a resolved config."""
    return hash_text(config_to_json(config))


def hash_dataset(builder: Any, split: str) -> str:
    """Short digest of what identifies a built split: version, examples per shard, bytes."""
    info = builder.info
    splits = {
        name: [list(part.shard_lengths), int(part.num_bytes)]
        for name, part in sorted(info.splits.items())
    }
    return hash_text(json.dumps([info.full_name, split, splits]))
