"""The protocol that a score was measured under, and the digest of the protocol."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from retroguide_jax.evaluation import registry
from retroguide_jax.evaluation.judges import Judge
from retroguide_jax.fingerprints import hash_text, hash_weights
from retroguide_jax.metric_nets.frozen import FrozenNet


def make_protocol(
    examples_key: Mapping[str, Any],
    metrics: Sequence[str],
    judges: Mapping[str, Judge],
    nets: Mapping[str, FrozenNet],
    **settings: Any,
) -> dict[str, Any]:
    """Everything that determines a score, except the weights of the model that is scored.

    Args:
      examples_key: identifies the images: data set, split, number; or the digest of the ids.
      metrics: names of the registry.
      judges: by name, without the model's own embedder.
      nets: by name.
      **settings: further entries that JSON can hold, such as seeds.

    Returns:
      A dictionary that JSON can hold. Equal protocols have equal `hash_protocol`.
    """
    return {
        "examples": dict(examples_key),
        "images": "uint8 RGB, as they are written to PNG",
        "metrics": {name: registry.METRICS[name].text for name in metrics},
        "judges": {
            name: {"step": int(judge.step), "weights": hash_weights(judge.variables)[:16]}
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
    return hash_text(json.dumps(protocol, sort_keys=True, allow_nan=False))


def find_differences(first: Any, second: Any, place: str = "") -> list[str]:
    """Where two protocols, or parts of them, differ: "resize: as stored against resized to ..."."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        keys = sorted({*first, *second})
        parts = ((first.get(key), second.get(key), f"{place}.{key}".strip(".")) for key in keys)
        return [text for part in parts for text in find_differences(*part)]
    if first == second:
        return []
    shown = ("nothing" if side is None else str(side)[:80] for side in (first, second))
    return [f"{place}: {' against '.join(shown)}".removeprefix(": ")]
