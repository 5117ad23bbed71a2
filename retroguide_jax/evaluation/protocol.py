"""What a number must be read with: the protocol it was measured under, and its digest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from retroguide_jax.config import config_to_json
from retroguide_jax.evaluation import registry


def make_protocol(
    examples_key: Mapping[str, Any],
    metrics: Sequence[str],
    judges: Mapping[str, Any],
    nets: Mapping[str, Any],
    **settings: Any,
) -> dict[str, Any]:
    """Everything that decides a figure, apart from the weights of the model that is scored.

    Args:
      examples_key: what names the images: data set, split, number; or the digest of the ids.
      metrics: names of the registry.
      judges: name -> `inference.Model`, without the model's own embedder.
      nets: name -> `FrozenNet`.
      **settings: seeds and the like, that JSON can hold.

    Returns:
      A dictionary that JSON can hold. Equal protocols have equal `hash_protocol`.
    """
    return {
        "examples": dict(examples_key),
        "images": "uint8 RGB, as they are written to PNG",
        "metrics": {name: registry.METRICS[name].text for name in metrics},
        "judges": {
            name: {"step": int(judge.step), "weights": hash_weights(judge.variables)}
            for name, judge in judges.items()
        },
        "networks": {
            name: {"fingerprint": net.fingerprint, "protocol": net.protocol}
            for name, net in nets.items()
        },
        **settings,
    }


def hash_protocol(protocol: Mapping[str, Any]) -> str:
    """Hexadecimal digest of a protocol."""
    return _digest(json.dumps(protocol, sort_keys=True, allow_nan=False).encode())


def hash_weights(tree: Any) -> str:
    """Hexadecimal digest of the values of a tree of arrays, names included."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def hash_config(config: Any) -> str:
    """Hexadecimal digest of a resolved config."""
    return _digest(config_to_json(config).encode())


def hash_dataset(builder: Any, split: str) -> str:
    """Hexadecimal digest of what names a built split: version, shards, bytes, number."""
    info = builder.info
    splits = {
        name: [list(part.shard_lengths), int(part.num_bytes)]
        for name, part in sorted(info.splits.items())
    }
    return _digest(json.dumps([info.full_name, split, splits]).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
