"""Finds pairs of the same place: those that share an aerial or ground image, by file content."""

import collections
import dataclasses
from collections.abc import Sequence

from retroguide_jax.data.identity import find_equal_files

from .listing import Pair


def identify_places(pairs: Sequence[Pair]) -> list[Pair]:
    """Gives pairs with identical aerials one aerial_id, and merges positives of identical grounds.

    An aerial_id defined by the data set is kept. Otherwise it is that of an earlier pair with the
    same aerial, or this pair's id. Crops of one file are identical if their boxes are equal.

    Returns:
      The pairs, in their order, each with an aerial_id and its own aerial first in `positives`.
    """
    aerials = find_equal_files([pair.aerial for pair in pairs])
    grounds = find_equal_files([pair.ground for pair in pairs])
    stated = {pair.aerial_id for pair in pairs if pair.aerial_id}
    names: dict[tuple, str] = {}
    for pair, file in zip(pairs, aerials, strict=True):
        # A pair's id must not collide with an aerial_id that the data set defines for another one.
        own = pair.id if pair.id not in stated else f"{pair.id} (own)"
        name = names.get((file, pair.aerial_box), own)
        names[file, pair.aerial_box] = pair.aerial_id or name
    own_names = [
        pair.aerial_id or names[file, pair.aerial_box]
        for pair, file in zip(pairs, aerials, strict=True)
    ]
    renamed = {pair.id: name for pair, name in zip(pairs, own_names, strict=True)}
    same_ground = collections.defaultdict(list)
    for pair, file, name in zip(pairs, grounds, own_names, strict=True):
        same_ground[file, pair.ground_box].append(name)
    found = []
    for pair, file, name in zip(pairs, grounds, own_names, strict=True):
        others = [renamed.get(other, other) for other in pair.positives]
        right = dict.fromkeys([name, *others, *same_ground[file, pair.ground_box]])
        found.append(dataclasses.replace(pair, aerial_id=name, positives=tuple(right)))
    return found


def describe_places(pairs: Sequence[Pair]) -> list[str]:
    """Notes on places shared by several pairs; none if every pair has its own place.

    Args:
      pairs: pairs as `identify_places` returns them.
    """
    notes = []
    files = collections.defaultdict(set)
    for pair in pairs:
        files[pair.aerial_id].add(pair.aerial)
    several = [sorted(names) for names in files.values() if len(names) > 1]
    if several:
        pair = " and ".join(several[0][:2])
        notes.append(f"{len(several)} aerials lie in several files, such as {pair}")
    aerials = {(pair.split, pair.aerial_id) for pair in pairs}
    if len(aerials) < len(pairs):
        notes.append(
            f"{len(aerials)} aerials for {len(pairs)} pairs: a gallery shows each once, and all "
            "pairs of an aerial are right answers"
        )
    equal = find_equal_files([pair.ground for pair in pairs])
    boxed = zip(equal, pairs, strict=True)
    grounds = {(pair.split, file, pair.ground_box) for file, pair in boxed}
    if len(grounds) < len(pairs):
        notes.append(f"{len(grounds)} ground images for {len(pairs)} pairs")
    seen = {pair.aerial_id for pair in pairs if pair.split == "train"}
    for split in ("val", "test"):
        leaked = sum(pair.split == split and pair.aerial_id in seen for pair in pairs)
        if leaked:
            notes.append(f"{leaked} pairs of {split} show an aerial that train shows too")
    return notes
