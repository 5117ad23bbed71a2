"""One pass over the examples: everything that is computed per image.

The result is columns, one row per example, from which summary.py makes scores:

id, aerial_id, positives, semi_positives   identify the example, see `pipeline.iterate_batches`
real_digest     of the target's pixels, which names and sizes of files do not identify
source/J, real/J [N, D], generated/J [N, K, D]   embeddings by judge J
real/NET.OUTPUT [N, D], generated/NET.OUTPUT [N, K, D]   outputs of frozen networks
METRIC [N, K]   scores of each image under each of K noises
METRIC_shuffled, METRIC_mean_image [N]   floors: the image generated from another source, and
                the mean training target, against the target. NaN in rows without a partner
METRIC_real [N]   of the target alone
diversity [N], label_consistency [N]   between the noises, see diversity.py and scene_layout.py
SURFACE [N, K, 3], SURFACE_real [N, 3]   mean colour of the sky; with labels, of light and facades
"""

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import registry
from retroguide_jax.evaluation.examples import Examples
from retroguide_jax.evaluation.judges import Judge
from retroguide_jax.metric_nets.frozen import FrozenNet
from retroguide_jax.metrics import diversity
from retroguide_jax.metrics.image_quality import FUNCTIONS
from retroguide_jax.parallel.local import LocalDevices
from retroguide_jax.parallel.processes import gather_rows

IDS = ("id", "aerial_id", "positives", "semi_positives")


@dataclasses.dataclass(frozen=True)
class Instruments:
    """The networks that score images.

    Attributes:
      judges: by name, the model's own embedder among them.
      lpips: metric name -> network with the output "distance".
      features: network name -> (network, outputs to keep).
      layout_reader: network that gives labels and depth of a panorama, or None.
    """

    judges: Mapping[str, Judge]
    lpips: Mapping[str, FrozenNet] = dataclasses.field(default_factory=dict)
    features: Mapping[str, tuple[FrozenNet, tuple[str, ...]]] = dataclasses.field(
        default_factory=dict
    )
    layout_reader: FrozenNet | None = None


class Scorer:
    """Scoring functions of one job, each compiled once, on all devices of this process.

    Attributes:
      absent: metric -> why it cannot be computed on images of this size; known after `score`.
    """

    def __init__(self, metrics: Sequence[str], instruments: Instruments, rows_per_device: int):
        if rows_per_device < 2 or rows_per_device % 2:
            # Adjacent rows of a batch are each other's shuffled baseline.
            raise UserError(f"{rows_per_device} images per device at a time: must be even")
        self.metrics, self.instruments = tuple(metrics), instruments
        self.absent: dict[str, str] = {}
        self.devices = LocalDevices()
        self.num_rows = rows_per_device * self.devices.num_devices
        self._pair = self._compile_pair()
        self._masked = self._compile("masked")
        self._alone = self._compile("alone")
        self._floored = [name for name in metrics if registry.METRICS[name].floors]
        self._floor = self.devices.compile(lambda _, *pair: self._apply_all(self._floored, *pair))
        nets = {name: net for name, (net, _) in instruments.features.items()}
        if instruments.layout_reader is not None:
            nets["layout_reader"] = instruments.layout_reader
        self._nets = {name: self._open(net) for name, net in nets.items()}
        of_noises = registry.list_group(metrics, "noise")
        lpips = {name: net for name, net in instruments.lpips.items() if name in of_noises}
        self._distances = {name: self._open(net) for name, net in lpips.items()}

    def score(
        self,
        examples: Examples,
        *,
        real: Mapping[str, np.ndarray] | None = None,
        progress_fn: Callable[[int, int], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Scores all examples in one pass.

        Args:
          examples: what is scored.
          real: columns of frozen networks on the real targets that are known already, with the
            targets' "real_digest"; those networks are then not run again.
          progress_fn: called with (this process's examples done, its total).

        Returns:
          The columns of all processes in the order of the examples, the same on every process.

        Raises:
          UserError: an example is missing, a generated image is not finite, or `real` belongs to
            other images.
        """
        has_floors = self._floored or self.instruments.layout_reader is not None
        mean_image = examples.mean_image if has_floors and examples.has_generated else None
        records = _Records()
        share = -(-examples.num // jax.process_count())
        for batch in examples.iterate(self.num_rows):
            record = {name: batch[name] for name in ("index", *IDS)}
            record["real_digest"] = _hash_images(batch["target"])
            _check_known(real or {}, record, batch["mask"])
            record |= self._score_real(batch, examples, real or {})
            if "samples" in batch:
                record |= self._score_generated(batch, examples, mean_image)
            records.append(record, np.flatnonzero(batch["mask"]))
            if progress_fn is not None:
                progress_fn(min(len(records), share), share)
        columns = records.gather()
        _check_whole(columns.pop("index"), examples)
        return columns | dict(real or {})

    def embed_tiles(self, examples: Examples) -> dict[str, np.ndarray]:
        """{"id": str [T], judge: [T, D]} of the gallery's further tiles; {} if there are none."""
        records = _Records()
        for batch in examples.iterate_tiles(self.num_rows):
            record = {"id": batch["id"]}
            for name, judge in self.instruments.judges.items():
                record[name] = judge.embed(batch["source"], examples.source_view)
            records.append(record, np.flatnonzero(batch["mask"]))
        return records.gather()

    def _compile_pair(self):
        names = registry.list_group(self.metrics, "pair")
        of_pairs = registry.list_group(self.metrics, "lpips")
        lpips = {name: net for name, net in self.instruments.lpips.items() if name in of_pairs}
        variables = self.devices.replicate({name: net.variables for name, net in lpips.items()})

        def score(variables, generated, target):
            scores = self._apply_all(names, generated, target)
            for name, net in lpips.items():
                with self._explain(name):
                    scores[name] = net.apply(variables[name], generated, target)["distance"]
            return scores

        compiled = self.devices.compile(score)
        return lambda *pair: compiled(variables, *pair)

    def _compile(self, group: str):
        names = registry.list_group(self.metrics, group)
        compiled = self.devices.compile(lambda _, *arrays: self._apply_all(names, *arrays))
        return lambda *arrays: compiled({}, *arrays) if names else {}

    def _apply_all(self, names: Sequence[str], *arrays: jax.Array) -> dict[str, jax.Array]:
        scores = {}
        for name in names:
            with self._explain(name):
                scores[name] = FUNCTIONS[name](*arrays)
        return scores

    @contextlib.contextmanager
    def _explain(self, name: str) -> Iterator[None]:
        """Lists a metric as absent if tracing it fails: images too small for its window."""
        try:
            yield
        except UserError as error:
            self.absent[name] = str(error)

    def _open(self, net: FrozenNet):
        if net.on_host:
            return lambda *arrays: net.apply(net.variables, *arrays)
        compiled, variables = self.devices.compile(net.apply), self.devices.replicate(net.variables)
        return lambda *arrays: compiled(variables, *arrays)

    def _ask_nets(self, images: np.ndarray) -> dict[str, np.ndarray]:
        rows = {}
        for name, (_, outputs) in self.instruments.features.items():
            given = self._nets[name](images)
            rows |= {f"{name}.{output}": np.asarray(given[output]) for output in outputs}
        return rows

    def _score_real(self, batch: Mapping, examples: Examples, known: Mapping) -> dict[str, Any]:
        record = {}
        target = batch["target"]
        for name, judge in self.instruments.judges.items():
            if examples.has_source:
                record[f"source/{name}"] = judge.embed(batch["source"], examples.source_view)
            record[f"real/{name}"] = judge.embed(target, examples.target_view)
        wanted = [f"real/{name}" for name in self._list_rows()]
        if not set(wanted) <= set(known):
            record |= {f"real/{name}": rows for name, rows in self._ask_nets(target).items()}
        alone = self._alone(target)
        return record | {f"{name}_real": values for name, values in alone.items()}

    def _list_rows(self) -> list[str]:
        return [
            f"{name}.{output}"
            for name, (_, outputs) in self.instruments.features.items()
            for output in outputs
        ]

    def _score_generated(self, batch: Mapping, examples: Examples, mean_image) -> dict[str, Any]:
        target, samples = batch["target"], batch["samples"]
        read = [self._read_layout(generated) for generated in samples]
        per_noise = [
            self._score_sample(batch, *sample, examples)
            for sample in zip(samples, read, strict=True)
        ]
        record = {
            name: np.stack([np.asarray(scores[name]) for scores in per_noise], axis=1)
            for name in per_noise[0]
        }
        partner = np.arange(len(target)) ^ 1
        shuffled = self._floor({}, samples[0][partner], target)
        is_other = batch["aerial_id"] != batch["aerial_id"][partner]
        has_partner = batch["mask"] & batch["mask"][partner] & is_other
        for name, values in shuffled.items():
            record[f"{name}_shuffled"] = np.where(has_partner, values, np.nan)
        if self.instruments.layout_reader is not None:
            other = {name: values[partner] for name, values in read[0].items()}
            for name, values in self._score_layout(batch, other).items():
                record[f"{name}_shuffled"] = np.where(has_partner, values, np.nan)
            for name, values in self._score_layout(batch, self._read_layout(target)).items():
                record[f"{name}_real"] = values
        if mean_image is not None:
            mean_images = np.broadcast_to(mean_image, target.shape)
            floors = dict(self._floor({}, mean_images, target))
            if self.instruments.layout_reader is not None:
                floors |= self._score_layout(batch, self._read_layout(mean_images))
            record |= {f"{name}_mean_image": values for name, values in floors.items()}
        return record | self._compare_noises(batch, samples, read)

    def _score_sample(self, batch: Mapping, generated, read, examples) -> dict[str, Any]:
        target = batch["target"]
        scores = self._pair(generated, target) | self._alone(generated)
        if "sky_mask" in batch:
            scores |= self._masked(generated, target, batch["sky_mask"])
        if self.instruments.layout_reader is not None:
            scores |= self._score_layout(batch, read)
        for name, judge in self.instruments.judges.items():
            scores[f"generated/{name}"] = judge.embed(generated, examples.target_view)
        return scores | {f"generated/{n}": rows for n, rows in self._ask_nets(generated).items()}

    def _read_layout(self, images: np.ndarray) -> dict[str, np.ndarray]:
        if self.instruments.layout_reader is None:
            return {}
        return {
            name: np.asarray(rows) for name, rows in self._nets["layout_reader"](images).items()
        }

    def _score_layout(self, batch: Mapping, read: Mapping) -> dict[str, Any]:
        from retroguide_jax.metrics import scene_layout

        return scene_layout.score_layout(read, batch["labels"], batch["depth"])

    def _compare_noises(self, batch: Mapping, samples: np.ndarray, read) -> dict[str, Any]:
        if len(samples) < 2:
            return {}
        record, surfaces = {}, {}
        if "diversity" in self.metrics:
            record["diversity"] = diversity.mean_pairwise_distance(samples)
        for name, distance in self._distances.items():
            pairs = itertools.combinations(samples, 2)
            found = [np.asarray(distance(*pair)["distance"]) for pair in pairs]
            record[name] = np.mean(found, axis=0)
        if "sky_spread_ratio" in self.metrics and "sky_mask" in batch:
            surfaces["sky"] = batch["sky_mask"]
        if self.instruments.layout_reader is not None:
            from retroguide_jax.metrics import scene_layout

            record["label_consistency"] = scene_layout.compare_noises([of["labels"] for of in read])
            surfaces |= scene_layout.mask_surfaces(batch["labels"])
        for name, mask in surfaces.items():
            record[name] = np.swapaxes(diversity.mean_colour(samples, mask), 0, 1)
            record[f"{name}_real"] = diversity.mean_colour(batch["target"], mask)
        return record


class _Records:
    """Per-example arrays gathered over batches, then over processes."""

    def __init__(self):
        self._parts: dict[str, list[np.ndarray]] = {}
        self._num_rows = 0

    def __len__(self) -> int:
        return self._num_rows

    def append(self, record: Mapping[str, Any], rows: np.ndarray) -> None:
        """Keeps `rows` of each [B, ...] array."""
        for name, values in record.items():
            self._parts.setdefault(name, []).append(np.asarray(values)[rows])
        self._num_rows += len(rows)

    def gather(self) -> dict[str, np.ndarray]:
        """All rows of all processes, sorted by "index" if there is one.

        The parts are freed column by column, so that only one column is held twice at a time.
        """
        columns = {n: gather_rows(np.concatenate(self._parts.pop(n))) for n in list(self._parts)}
        if "index" in columns:
            order = np.argsort(columns["index"], kind="stable")
            if not np.array_equal(order, np.arange(len(order))):
                columns = {name: values[order] for name, values in columns.items()}
        return columns


def _hash_images(images: np.ndarray) -> np.ndarray:
    """Digests, str [B], of images uint8 [B, H, W, 3]."""
    images = np.ascontiguousarray(images)
    return np.array([hashlib.blake2b(image, digest_size=16).hexdigest() for image in images])


def _check_known(real: Mapping, record: Mapping, mask: np.ndarray) -> None:
    if not real:
        return
    index = record["index"]
    differs = mask & (real["real_digest"][index] != record["real_digest"])
    if differs.any():
        name = str(record["id"][np.argmax(differs)])
        raise UserError(
            f"--reference_stats: was made from other images than the reference now holds, such as "
            f"{name!r}; name another file, or delete this one to make it again"
        )


def _check_whole(index: np.ndarray, examples) -> None:
    """Checks that each example was read exactly once: else the score is that of another set."""
    missing = np.setdiff1d(np.arange(examples.num), index)
    if len(missing) or len(index) != examples.num:
        named = ", ".join(str(number) for number in missing[:10]) or "-"
        raise UserError(
            f"{examples.num} examples expected, {len(index)} read; missing positions: {named}"
        )
