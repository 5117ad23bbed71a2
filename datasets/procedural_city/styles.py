"""Town styles: the distributions from which `make_scene` draws a town. Lengths are in metres."""

import dataclasses

import numpy as np


def _palette(*colours: str) -> np.ndarray:
    """Hexadecimal colours as uint8 [n, 3]."""
    return np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in colours], np.uint8)


@dataclasses.dataclass(frozen=True)
class Style:
    """Parameters of one kind of town. Every pair (low, high) is a uniform range in metres.

    Attributes:
      name: key in STYLES.
      block: distance between parallel streets, kerb to kerb.
      carriageway, pavement: widths of carriageway and pavement.
      lot: frontage of one building.
      depth: depth of one building.
      storeys: weights of 1, 2, 3 ... storeys.
      storey_height: height of one storey.
      land_use: weights of built, park, car park, water.
      detached: share of built blocks with free-standing houses and gardens.
      pitched: share of roofs that are gabled or hipped.
      street_trees: share of street sides planted with trees.
      pitched_roofs, flat_roofs, facades, asphalt, paving: palettes, uint8 [n, 3].
    """

    name: str
    block: tuple[float, float]
    carriageway: tuple[float, float]
    pavement: tuple[float, float]
    lot: tuple[float, float]
    depth: tuple[float, float]
    storeys: tuple[float, ...]
    storey_height: tuple[float, float]
    land_use: tuple[float, float, float, float]
    detached: float
    pitched: float
    street_trees: float
    pitched_roofs: np.ndarray
    flat_roofs: np.ndarray
    facades: np.ndarray
    asphalt: np.ndarray
    paving: np.ndarray


STYLES = {
    "market_town": Style(
        name="market_town",
        block=(25.0, 44.0),
        carriageway=(6.2, 9.8),
        pavement=(2.0, 3.5),
        lot=(8.0, 19.0),
        depth=(8.0, 13.0),
        storeys=(0.09, 0.27, 0.29, 0.20, 0.10, 0.05),
        storey_height=(2.8, 3.4),
        land_use=(0.77, 0.12, 0.05, 0.06),
        detached=0.45,
        pitched=0.62,
        street_trees=0.35,
        pitched_roofs=_palette(
            "b5573c", "9c4a38", "7a5442", "5b5f69", "464a52", "8a4f46", "c07a4c", "6f7f6a", "50688a"
        ),
        flat_roofs=_palette("bdb8ad", "d9d6ce", "8f8d88", "a89a86", "6b6c6e", "7f9468", "c9b28e"),
        facades=_palette(
            "e6dcc3", "d8b378", "a8553f", "d9a48e", "efece4", "9aa3a8", "8fa7bd", "a9b48c",
            "7d4a3a", "c98f5a", "c7c0b2", "e3cf8a",
        ),
        asphalt=_palette("5c5e61", "6a6a69", "4f5155", "757370"),
        paving=_palette("a9a49a", "b5a893", "9b9b9b", "b39a86"),
    ),
    "inner_city": Style(
        name="inner_city",
        block=(36.0, 62.0),
        carriageway=(8.0, 14.0),
        pavement=(3.0, 5.0),
        lot=(14.0, 30.0),
        depth=(11.0, 18.0),
        storeys=(0.05, 0.10, 0.18, 0.22, 0.20, 0.13, 0.08, 0.04),
        storey_height=(3.2, 3.9),
        land_use=(0.78, 0.09, 0.08, 0.05),
        detached=0.15,
        pitched=0.28,
        street_trees=0.5,
        pitched_roofs=_palette("4c5a63", "6d7479", "3f4247", "5f7d74", "8c6a55"),
        flat_roofs=_palette("cfcac0", "e4e2dd", "9fa2a5", "7c7a76", "595b5e", "b9a893", "8b9a7a"),
        facades=_palette(
            "cfc6b4", "b8ab97", "8e9aa3", "6f7d88", "d9d9d6", "a86f52", "b99c6b", "7f8d84", "94604f"
        ),
        asphalt=_palette("55575b", "626365", "4a4c50"),
        paving=_palette("b3afa8", "a3a09b", "bdb2a2"),
    ),
}  # fmt: skip
