"""Which pairs show one place: they share an aerial or a ground image, by content, not by name."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from retroguide_jax.data.identity import find_equal_files

from .listing import Pair


def identify_places(pairs: Sequence[Pair]) -> list[Pair]:
    """Gives pairs of equal aerials one aerial_id, and pairs of equal ground images all positives.

    An aerial_id that a data set states is kept. Else it is the one that an earlier pair of the same
    aerial has, or this pair's id. Crops of one file are equal where their boxes are.

    Returns:
      The pairs, in their order, each with an aerial_id and its own aerial first in `positives`.
    """
    aerials = find_equal_files([pair.aerial for pair in pairs])
    grounds = find_equal_files([pair.ground for pair in pairs])
    stated = {pair.aerial_id for pair in pairs if pair.aerial_id}
    names: dict[tuple, str] = {}
    for pair, file in zip(pairs, aerials, strict=True):
        # An id that is stated for one aerial must not become another's by chance.
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
    """Notes about places that pairs of `identify_places` share; none where each has its own."""
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
