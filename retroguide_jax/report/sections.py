"""The page's sections about places: from a `RankedExamples` to captions and data: URIs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from retroguide_jax.evaluation.judges import EMBEDDER
from retroguide_jax.report.cloud import Cloud
from retroguide_jax.report.masks import draw_maps
from retroguide_jax.report.pictures import encode, lay_over
from retroguide_jax.report.ranked import Place, RankedExamples

_NUM_RANDOM, _NUM_BEST, _NUM_WORST, _NUM_MAPPED = 6, 4, 6, 3
_TOP, _TOP_INSTEAD = 5, 3
_SMOOTH_FROM = 192  # pixels of height; smaller pictures are shown pixel by pixel


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture with its caption; `mark` is "right", "wrong" or ""."""

    uri: str
    caption: str
    alt: str
    mark: str = ""


@dataclasses.dataclass(frozen=True)
class Card:
    """One place: its source, its target beside the generated images, and what was retrieved.

    Attributes:
      id: of the example.
      text: its ranks and similarities as text.
      source: picture.
      views: pictures of the target view.
      found: judge -> pictures, the most similar first.
    """

    id: str
    text: str
    source: Picture
    views: list[Picture]
    found: dict[str, list[Picture]] = dataclasses.field(default_factory=dict)


def make_galleries(examples: RankedExamples) -> dict[str, list[Card]]:
    """{"random", "best", "worst", "retrieval"} -> cards; "worst" adds what was found instead."""
    order = examples.list_best()
    num_best, num_worst = min(_NUM_BEST, len(order) // 2), min(_NUM_WORST, len(order) // 2)
    rng = np.random.default_rng(0)
    chosen = {
        "random": sorted(rng.permutation(examples.num)[:_NUM_RANDOM].tolist()),
        "best": order[:num_best],
        "worst": order[::-1][:num_worst],
    }
    # Draw all galleries together, so that only one batch is padded.
    places = iter(examples.draw([row for rows in chosen.values() for row in rows]))
    drawn = {name: [next(places) for _ in rows] for name, rows in chosen.items()}
    cards = {"random": [_make_card(examples, place) for place in drawn["random"]]}
    cards["best"] = [_make_card(examples, place, num_noises=1) for place in drawn["best"]]
    cards["worst"] = [
        _make_card(examples, place, 1, {examples.judge: _TOP_INSTEAD}) for place in drawn["worst"]
    ]
    tops = dict.fromkeys(examples.judges, _TOP)
    cards["retrieval"] = [_make_card(examples, place, 1, tops) for place in drawn["random"]]
    return cards


def make_maps(examples: RankedExamples) -> tuple[list[Card], list[str]]:
    """(cards of the generator's maps over its images, kinds of maps that it has)."""
    rows = sorted(np.random.default_rng(0).permutation(examples.num)[:_NUM_MAPPED].tolist())
    places = [examples.read(row) for row in rows]
    source, noise = examples.make_inputs(places)
    images, layers = draw_maps(examples.model, source, noise[0])
    cards = []
    for number, place in enumerate(places):
        views = [Picture(encode(images[number]), "generated", f"generated for {place.id}")]
        for layer in layers:
            height, width = layer.maps.shape[1:]
            caption = f"{layer.kind}, {layer.name}, {height} × {width}"
            over = lay_over(images[number], layer.maps[number])
            views.append(Picture(encode(over), caption, f"{caption}, of {place.id}"))
        cards.append(Card(place.id, "", _show(place.source, "source", place), views))
    return cards, sorted({layer.kind for layer in layers})


def make_cloud(examples: RankedExamples) -> Cloud:
    """The embeddings for `cloud.draw_map`, by the judge whose ranks are used."""
    columns, judge = examples.columns, examples.judge
    generated = columns.get(f"generated/{judge}")
    colours, meaning = examples.locate()
    return Cloud(
        ids=columns["id"].tolist(),
        source=columns[f"source/{judge}"],
        target=columns[f"real/{judge}"],
        generated=None if generated is None else generated[:, 0],
        colours=colours,
        meaning=meaning,
    )


def describe(examples: RankedExamples) -> dict[str, Any]:
    """Facts about the examples, the model and the judge for the captions of the sections."""
    height, width = examples.model.networks.sizes[examples.model.target_view]
    classes = {"pixelated": height < _SMOOTH_FROM, "square": width < 2 * height}
    return {
        "num": examples.num,
        "num_all": examples.num_all,
        "split": examples.split,
        "step": int(examples.model.step),
        "judge": examples.judge,
        "is_independent": examples.judge != EMBEDDER,
        "classes": " ".join(name for name, holds in classes.items() if holds),
        "has_generator": examples.model.has_generator,
        "views": (examples.model.source_view, examples.model.target_view),
    }


def _make_card(
    examples: RankedExamples,
    place: Place,
    num_noises: int | None = None,
    tops: Mapping[str, int] | None = None,
) -> Card:
    views = [_show(place.target, "real", place)]
    for k, image in enumerate(place.generated[:num_noises]):
        caption = f"generated {k + 1}: {_describe_noise(examples, place.row, k)}"
        views.append(_show(image, caption, place))
    found = {
        judge: _show_found(examples, place.row, judge, top) for judge, top in (tops or {}).items()
    }
    return Card(
        place.id,
        _describe_place(examples, place.row),
        _show(place.source, "source", place),
        views,
        found,
    )


def _describe_noise(examples: RankedExamples, row: int, noise: int) -> str:
    rank, psnr = examples.ranks[examples.judge][row, noise], examples.columns["psnr"][row, noise]
    return f"rank {rank:g}, PSNR {psnr:.1f} dB"


def _describe_place(examples: RankedExamples, row: int) -> str:
    ranks = ", ".join(f"{rank:g}" for rank in examples.ranks[examples.judge][row])
    what = "ranks" if examples.model.has_generator else "rank of the real image:"
    return f"{what} {ranks} of {examples.num}, by {examples.judge}"


def _show_found(examples: RankedExamples, row: int, judge: str, top: int) -> list[Picture]:
    found = examples.find(row, judge, top)
    pictures = []
    for item, similarity, is_right in zip(
        found.rows, found.similarities, found.is_right, strict=True
    ):
        place = examples.read(item)
        picture = _show(place.source, f"{similarity:.2f}", place)
        pictures.append(dataclasses.replace(picture, mark="right" if is_right else "wrong"))
    return pictures


def _show(image: np.ndarray, caption: str, place: Place) -> Picture:
    return Picture(encode(image), caption, f"{caption.partition(':')[0]}, {place.id}")
