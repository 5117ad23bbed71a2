"""The evaluation job: one pass over a split with a trained model, then every score.

Names of scores, with J the name of a judge and k = 1, 5, 10:

r@k_real/J       ceiling: the real target image as query, all sources of the split as gallery, an
                 aerial that several pairs share once; of several right answers the nearest counts
r@k_generated/J  the generated image as query for its source's place
r@k_shuffled/J   floor: the image generated from another source as query
psnr, ssim_rgb   generated against real target, per image, averaged
*_shuffled       floor: the image generated from another source against the real target
*_mean_image     floor: the mean training target against each real target
sharpness_ratio  mean sharpness of the generated over that of the real images
sky_spread_ratio, diversity   what the noise does, see diversity.py

Except for the last two, all scores are of one image a source, the one under noise 0.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.data.images import to_float, to_uint8
from retroguide_jax.data.pipeline import iterate_batches, num_examples
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import diversity, image_quality, retrieval

EMBEDDER = "embedder"  # the model's own embedder as judge: the one that conditions the generator
RECALL_AT = (1, 5, 10)
_MAX_MEAN_IMAGE_EXAMPLES = 2048


def evaluate(
    model,
    judges: Mapping[str, Any],
    builder,
    data_config,
    split: str,
    *,
    batch_size: int,
    num_noises: int = 3,
    seed: int = 0,
    max_examples: int | None = None,
    progress_fn: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Scores `model` on a split; see the module's docstring for the names.

    Images are scored as they are written to PNG: generated images are rounded to uint8 before
    anything looks at them, judges included. Noise is a function of (seed, index of the example,
    number of the noise), and the shuffling of (seed, number of examples), so neither depends on
    `batch_size`. The mean image is that of the first 2,048 targets of `data_config.train_split`.
    Memory: the split's real and generated targets as uint8, and its embeddings.

    Args:
        model: an `inference.Model`. Without a generator (contrastive mode) only r@k_real is given.
        judges: name -> `inference.Model` whose embedder was trained apart from the model's own.
        builder: the data set, a TFDS builder.
        data_config: `config.data` of the model.
        split: TFDS split, such as "test" or "test[:100]".
        batch_size: images at a time; the last batch is filled up, so each function compiles once.
        num_noises: images generated for each source. With 1, `diversity` and `sky_spread_ratio`
            are absent.
        seed: of the noise and of the shuffling.
        max_examples: only the first so many examples of the split; all when None.
        progress_fn: called with (examples done, examples in all) after each batch.

    Returns:
        A row that JSON can hold: {"step", "split", "direction" ("a2g" or "g2a"), "metrics":
        {name: {"value", "n"}}, "absent": [{"name", "reason"}], "ties": {"real/J": number of
        queries with tied items, ...}, "num_noises", "seed", "seconds"}.

    Raises:
        UserError: a judge works on images of another size, or is the conditioning embedder itself;
            an image or an embedding is not finite; the split has fewer than 2 examples.
    """
    start = time.monotonic()
    if EMBEDDER in judges:
        raise ValueError(f"{EMBEDDER!r} is the name of the model's own embedder")
    for name, judge in judges.items():
        _check_sizes(name, judge.config.data, data_config)
    total = num_examples(builder, split)
    total = total if max_examples is None else min(total, max_examples)
    if total < 2:
        raise UserError(f"split {split!r}: scores need at least 2 examples, there are {total}")

    batch_size = min(batch_size, total)
    embedders = {EMBEDDER: model, **judges}
    scores = _Scores()
    mean_image = None
    if model.has_generator:
        mean_image = _compute_mean_image(builder, data_config, model.target_view, batch_size)
    records = _Records()
    num_batches = -(-total // batch_size)
    batches = iterate_batches(builder, data_config, split, batch_size=batch_size)
    for batch in itertools.islice(batches, num_batches):
        rows = np.flatnonzero(batch["mask"])[: total - len(records)]
        record = _embed_real(model, embedders, batch) | {"aerial_id": batch["aerial_id"]}
        if model.has_generator:
            noise = draw_noise(seed, batch["index"], num_noises, model.z_dim)
            samples = _generate(model, batch[model.source_view], noise)
            record |= _score_generated(model, embedders, batch, samples, mean_image)
        records.append(record, rows)
        if progress_fn is not None:
            progress_fn(len(records), total)
    columns = records.concatenate()
    if len(records) != total:
        raise UserError(f"split {split!r}: {total} examples expected, {len(records)} read")
    for name in judges:
        _check_independent(name, columns)

    shown, places = find_matches(columns["aerial_id"], model.source_view)
    for name in embedders:
        gallery = columns[f"source/{name}"][shown]
        scores.add_recall("real", name, columns[f"real/{name}"], gallery, places)
    if model.has_generator:
        other = _draw_derangement(total, seed)
        for name in embedders:
            gallery, queries = columns[f"source/{name}"][shown], columns[f"generated/{name}"]
            scores.add_recall("generated", name, queries, gallery, places)
            scores.add_recall("shuffled", name, queries[other], gallery, places)
        columns |= _score_shuffled(columns, other, batch_size)
        _add_image_scores(scores, columns)
        _add_noise_scores(scores, columns, num_noises)
    else:
        scores.absent.append(
            {"name": "all but r@k_real", "reason": "this model has no generator (mode contrastive)"}
        )
    return {
        "step": int(model.step),
        "split": split,
        "direction": f"{model.source_view[0]}2{model.target_view[0]}",
        "metrics": scores.metrics,
        "absent": scores.absent,
        "ties": scores.ties,
        "num_noises": num_noises,
        "seed": seed,
        "seconds": round(time.monotonic() - start, 1),
    }


def draw_noise(seed: int, index: np.ndarray, num_noises: int, z_dim: int) -> np.ndarray:
    """Standard normal noise, float32 [K, B, z_dim], a function of (seed, index[b], k) alone.

    Args:
        seed: of the evaluation.
        index: int [B], positions of the examples in their split.
        num_noises: K.
        z_dim: length of one noise vector.
    """
    return np.asarray(_draw_noise(seed, jnp.asarray(index, jnp.int32), num_noises, z_dim))


def find_matches(aerial_ids: np.ndarray, source_view: str) -> tuple[np.ndarray, np.ndarray]:
    """The gallery of sources, and each pair's right answers in it.

    Args:
        aerial_ids: str [N], of each pair; pairs that share a tile (VIGOR) share it.
        source_view: "aerial" or "ground": what the gallery is made of.

    Returns:
        (int [R] the pairs whose sources are the gallery, int [N, P] the gallery rows that are right
        for pair n, filled up with -1). A shared aerial stands in a gallery once; in a gallery of
        ground images all that show the tile are right.
    """
    _, first, group = np.unique(aerial_ids, return_index=True, return_inverse=True)
    if source_view == "aerial":
        return first, group[:, None]
    members = [np.flatnonzero(group == number) for number in range(len(first))]
    matches = np.full((len(group), max(map(len, members))), -1)
    for rows in members:
        matches[rows, : len(rows)] = rows
    return np.arange(len(group)), matches


class _Records:
    """Per-example arrays gathered over batches."""

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

    def concatenate(self) -> dict[str, np.ndarray]:
        """All rows so far; the parts are let go one by one, so that nothing is held twice."""
        return {name: np.concatenate(self._parts.pop(name)) for name in list(self._parts)}


class _Scores:
    """The metrics, absences and ties of one row."""

    def __init__(self):
        self.metrics: dict[str, dict[str, Any]] = {}
        self.absent: list[dict[str, str]] = []
        self.ties: dict[str, int] = {}

    def add(self, name: str, value: float, num: int, reason: str) -> None:
        """Adds a metric, or lists it as absent for `reason` where it is not finite."""
        if np.isfinite(value):
            self.metrics[name] = {"value": float(value), "n": int(num)}
        else:
            self.absent.append({"name": name, "reason": reason})

    def add_recall(
        self, kind: str, judge: str, queries: np.ndarray, gallery: np.ndarray, places: np.ndarray
    ) -> None:
        """Adds r@k of [N, D] queries whose true matches are the gallery rows `places`."""
        ranks, num_tied = retrieval.rank_matches(queries, gallery, places)
        for k in RECALL_AT:
            value = retrieval.compute_recall(ranks, k)
            self.metrics[f"r@{k}_{kind}/{judge}"] = {"value": value, "n": len(ranks)}
        self.ties[f"{kind}/{judge}"] = num_tied


def _check_sizes(name: str, judge_config, data_config) -> None:
    for view in ("aerial_size", "ground_size"):
        judged, given = tuple(judge_config[view]), tuple(data_config[view])
        if judged != given:
            raise UserError(
                f"judge {name}: was trained with {view} {judged}, the model has {given}; "
                "train the judge on images of the model's size"
            )


def _check_independent(name: str, columns: Mapping[str, np.ndarray]) -> None:
    """A copy of the conditioning embedder is no judge: the generator was trained to please it."""
    own, judged = columns[f"source/{EMBEDDER}"], columns[f"source/{name}"]
    if own.shape == judged.shape and np.allclose(own, judged, atol=1e-4):
        raise UserError(
            f"judge {name}: is the model's own embedder; "
            "train one on its own, from another seed (--config=city_retrieval)"
        )


def _embed_real(model, embedders: Mapping[str, Any], batch: Mapping) -> dict[str, Any]:
    record = {}
    for name, embedder in embedders.items():
        for kind, view in (("source", model.source_view), ("real", model.target_view)):
            record[f"{kind}/{name}"] = embedder.embed(batch[view], view)
    return record


def _generate(model, source: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """uint8 [K, B, H, W, 3]: the images of each source under K noises."""
    samples = []
    for z in noise:
        images = np.asarray(model.generate(source, z), np.float32)
        # Rounding turns a NaN into an ordinary colour, after which nobody would notice.
        if not np.all(np.isfinite(images)):
            raise UserError(
                "the generator gives images that are not finite; "
                "the model has diverged: evaluate an earlier checkpoint"
            )
        samples.append(to_uint8(images))
    return np.stack(samples)


def _score_generated(
    model, embedders: Mapping[str, Any], batch: Mapping, samples: np.ndarray, mean_image: np.ndarray
) -> dict[str, Any]:
    """Everything about the generated images that needs one batch only; [B, ...] each."""
    target, generated = to_uint8(batch[model.target_view]), samples[0]
    mean_image = np.broadcast_to(mean_image, target.shape)
    record = {
        "target": target,
        "generated": generated,
        "psnr": image_quality.psnr(generated, target),
        "ssim_rgb": image_quality.ssim_rgb(generated, target),
        "psnr_mean_image": image_quality.psnr(mean_image, target),
        "ssim_rgb_mean_image": image_quality.ssim_rgb(mean_image, target),
        "sharpness": image_quality.sharpness(generated),
        "sharpness_real": image_quality.sharpness(target),
    }
    for name, embedder in embedders.items():
        record[f"generated/{name}"] = embedder.embed(to_float(generated), model.target_view)
    if len(samples) > 1:
        record["diversity"] = diversity.mean_pairwise_distance(samples)
        # The mask was made for the panorama; on an aerial target there is no sky.
        if "sky_mask" in batch and model.target_view == "ground":
            sky = diversity.mean_colour(samples, batch["sky_mask"])
            record["sky"] = np.swapaxes(sky, 0, 1)
            record["sky_real"] = diversity.mean_colour(target, batch["sky_mask"])
    return record


def _score_shuffled(
    columns: Mapping[str, np.ndarray], other: np.ndarray, batch_size: int
) -> dict[str, np.ndarray]:
    """PSNR and SSIM of the image generated from source other[i] against target i; [N] each."""
    records = _Records()
    total = len(other)
    for first in range(0, total, batch_size):
        # Filled up with the last example, so that the functions compiled for the pass serve again.
        rows = np.minimum(np.arange(first, first + batch_size), total - 1)
        generated, target = columns["generated"][other[rows]], columns["target"][rows]
        record = {
            "psnr_shuffled": image_quality.psnr(generated, target),
            "ssim_rgb_shuffled": image_quality.ssim_rgb(generated, target),
        }
        records.append(record, np.arange(min(batch_size, total - first)))
    return records.concatenate()


def _add_image_scores(scores: _Scores, columns: Mapping[str, np.ndarray]) -> None:
    for metric in ("psnr", "ssim_rgb"):
        for name in (metric, f"{metric}_shuffled", f"{metric}_mean_image"):
            values = np.asarray(columns[name], np.float64)
            num_equal = int(np.sum(np.isinf(values)))
            reason = f"infinite: {num_equal} of {len(values)} images equal their targets"
            scores.add(name, np.mean(values), len(values), reason)
    generated = np.asarray(columns["sharpness"], np.float64)
    real = np.mean(columns["sharpness_real"], dtype=np.float64)
    ratio = np.mean(generated) / real if real > 0 else np.nan
    scores.add("sharpness_ratio", ratio, len(generated), "the real images are all flat")


def _add_noise_scores(scores: _Scores, columns: Mapping[str, np.ndarray], num_noises: int) -> None:
    ratio, num_images = np.nan, 0
    if num_noises < 2:
        reason = "needs at least 2 noises"
        scores.absent.append({"name": "diversity", "reason": reason})
    else:
        values = np.asarray(columns["diversity"], np.float64)
        scores.add("diversity", np.mean(values), len(values), "not finite")
        reason = "needs a ground target and a data set with sky masks"
        if "sky" in columns:
            sky = np.swapaxes(columns["sky"], 0, 1)
            ratio, num_images = diversity.compute_sky_spread_ratio(sky, columns["sky_real"])
            reason = f"needs skies of different colours; {num_images} real images show sky"
    scores.add("sky_spread_ratio", ratio, num_images, reason)


def _compute_mean_image(builder, data_config, view: str, batch_size: int) -> np.ndarray:
    """uint8 [1, H, W, 3]: mean of the first targets of the training split."""
    split = data_config.train_split
    total = min(num_examples(builder, split), _MAX_MEAN_IMAGE_EXAMPLES)
    batches = iterate_batches(builder, data_config, split, batch_size=batch_size)
    image_sum, num_images = 0.0, 0
    for batch in itertools.islice(batches, -(-total // batch_size)):
        rows = np.flatnonzero(batch["mask"])[: total - num_images]
        image_sum = image_sum + np.sum(batch[view][rows], axis=0, dtype=np.float64)
        num_images += len(rows)
    return to_uint8(image_sum / num_images)[None]


def _draw_derangement(num: int, seed: int) -> np.ndarray:
    """int64 [num], a random permutation without fixed points: one cycle through all items."""
    order = np.random.default_rng(seed).permutation(num)
    other = np.empty(num, np.int64)
    other[order] = np.roll(order, 1)
    return other


def _draw_noise_of_example(seed, index, num_noises: int, z_dim: int) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(seed), index)
    keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(num_noises))
    return jax.vmap(lambda k: jax.random.normal(k, (z_dim,)))(keys)


_draw_noise = jax.jit(
    jax.vmap(_draw_noise_of_example, in_axes=(None, 0, None, None), out_axes=1),
    static_argnums=(2, 3),
)
