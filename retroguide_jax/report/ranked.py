"""Generates, embeds and ranks the first examples of a split, as `evaluate` would.

Everything is recomputed from the checkpoint, with the noise of an evaluation of seed 0, so that the
page's pictures, ranks and similarities are consistent.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.images import to_uint8
from retroguide_jax.data.reading import PairDecoder, get_id, open_source
from retroguide_jax.evaluation.examples import ModelExamples
from retroguide_jax.evaluation.judges import EMBEDDER, open_judges
from retroguide_jax.evaluation.ranking import find_places
from retroguide_jax.evaluation.scoring import Instruments, Scorer
from retroguide_jax.metrics.retrieval import rank_matches
from retroguide_jax.noise import draw_noises

_METRICS = ("psnr",)
_ROWS_PER_DEVICE = 16
_SEED = 0
# Feature that holds positions -> (index of its east coordinate, unit of that coordinate).
_EAST = {"camera": (0, "metres east"), "position": (1, "longitude, degrees or metres")}


@dataclasses.dataclass(frozen=True)
class Place:
    """The pictures of one example.

    Attributes:
      row: its position in the split.
      id: its name.
      source, target: uint8 [H, W, 3].
      generated: uint8 [K, H', W', 3], one image per noise; K = 0 without a generator.
    """

    row: int
    id: str
    source: np.ndarray
    target: np.ndarray
    generated: np.ndarray


@dataclasses.dataclass(frozen=True)
class Found:
    """What one judge retrieves for a query: gallery rows by descending similarity.

    Attributes:
      rows: positions in the split, [top].
      similarities: cosines, [top].
      is_right: whether each shows the query's place, [top].
    """

    rows: list[int]
    similarities: list[float]
    is_right: list[bool]


class RankedExamples:
    """The first examples of a split, seen through a model and its judges.

    Attributes:
      model: an `inference.Model`.
      judges: name -> embedder, the model's own last, under the name `judges.EMBEDDER`.
      split: its name.
      num, num_all: number of examples used, and number of examples in the split.
      columns: see `evaluation/scoring.py`.
      ranks: judge -> float [N, K] of the generated images (of the real targets, K = 1, without a
        generator) among the sources; 1 is best, ties count half.
    """

    def __init__(
        self,
        workdir: Path,
        judges: Mapping[str, Path],
        *,
        data_dir: str | None,
        num_noises: int,
        max_examples: int,
        progress_fn: Callable[[int, int], None] | None = None,
    ):
        """Opens model, judges and data set, and scores the examples in one pass.

        Raises:
          UserError: a checkpoint, a judge or the data set cannot be used; a data set that is not
            built yet is not built here.
        """
        self.model = load_model(workdir)
        config = self.model.config.data
        sizes = {view: tuple(config[f"{view}_size"]) for view in ("aerial", "ground")}
        self.judges = {**open_judges(judges, sizes), EMBEDDER: self.model}
        builder = open_dataset(config, data_dir, build=False)
        self.split = config.test_split
        examples = ModelExamples(
            self.model,
            builder,
            config,
            self.split,
            num_noises=num_noises,
            seed=_SEED,
            max_examples=max_examples,
            with_mean_image=False,  # the page takes floors from results.jsonl
        )
        self._source = open_source(builder, self.split, also=tuple(_EAST))
        self._decode = PairDecoder(config)
        self.num, self.num_all, self._num_noises = examples.num, len(self._source), num_noises
        scorer = Scorer(_METRICS, Instruments(self.judges), _ROWS_PER_DEVICE)
        self._num_rows = scorer.num_rows
        self.columns = scorer.score(examples, progress_fn=progress_fn)
        self._places = find_places(self.columns, self.model.source_view)
        self.ranks = {name: self._rank(name) for name in self.judges}

    @property
    def judge(self) -> str:
        """The judge whose ranks are used: the first independent one, else the model's embedder."""
        return next(iter(self.judges))

    def list_best(self) -> list[int]:
        """All rows, the best first: by the rank under the first noise, then by similarity."""
        queries = self._get_queries(self.judge)[:, 0]
        own = np.sum(queries * self.columns[f"source/{self.judge}"], axis=-1)
        return np.lexsort((-own, self.ranks[self.judge][:, 0])).tolist()

    def find(self, row: int, judge: str, top: int) -> Found:
        """The `top` sources that a judge ranks first for the first query of a row."""
        gallery = self.columns[f"source/{judge}"][self._places.shown]
        similarities = gallery @ self._get_queries(judge)[row, 0]
        nearest = np.argsort(-similarities, kind="stable")[:top]
        right = set(self._places.matches[row].tolist())
        return Found(
            self._places.shown[nearest].tolist(),
            similarities[nearest].tolist(),
            [item in right for item in nearest.tolist()],
        )

    def read(self, row: int) -> Place:
        """The stored pictures of a row; generates none."""
        example = self._source[row]
        pair = self._decode(example)
        source, target = pair[self.model.source_view], pair[self.model.target_view]
        return Place(row, get_id(example), source, target, np.zeros((0, *target.shape), np.uint8))

    def draw(self, rows: list[int]) -> list[Place]:
        """The pictures of some rows, generated with the noises that they were ranked with."""
        places = [self.read(row) for row in rows]
        if not self.model.has_generator:
            return places
        source, noise = self.make_inputs(places)
        drawn = np.stack([self._generate(source, z) for z in noise], axis=1)
        return [
            dataclasses.replace(place, generated=images)
            for place, images in zip(places, drawn, strict=True)
        ]

    def make_inputs(self, places: list[Place]) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of the generator: (uint8 sources [B, H, W, 3], noise [K, B, z_dim])."""
        rows = np.array([place.row for place in places])
        source = np.stack([place.source for place in places])
        return source, draw_noises(_SEED, rows, self._num_noises, self.model.z_dim)

    def locate(self) -> tuple[list[float], str]:
        """(east coordinate per row, its unit); the position in the split where that is unknown."""
        examples = [self._source[row] for row in range(self.num)]
        for name, (axis, meaning) in _EAST.items():
            if name in examples[0]:
                east = [float(example[name][axis]) for example in examples]
                if np.isfinite(east).all():
                    return east, meaning
        return list(range(self.num)), "position in the split"

    def _get_queries(self, judge: str) -> np.ndarray:
        """Unit rows [N, K, D]."""
        if self.model.has_generator:
            return self.columns[f"generated/{judge}"]
        return self.columns[f"real/{judge}"][:, None]

    def _rank(self, judge: str) -> np.ndarray:
        gallery = self.columns[f"source/{judge}"][self._places.shown]
        by_noise = np.moveaxis(self._get_queries(judge), 1, 0)
        found = [rank_matches(rows, gallery, self._places.matches).ranks for rows in by_noise]
        return np.stack(found, axis=1)

    def _generate(self, source: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Generates uint8 images in batches of the size that is already compiled."""
        missing = -len(source) % self._num_rows
        filled = [np.concatenate([rows, np.repeat(rows[-1:], missing, 0)]) for rows in (source, z)]
        batches = [
            self.model.generate(*(rows[first : first + self._num_rows] for rows in filled))
            for first in range(0, len(filled[0]), self._num_rows)
        ]
        return to_uint8(np.concatenate(batches)[: len(source)])
