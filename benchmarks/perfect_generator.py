"""What a perfect generator would score: the city's test places, rendered again in other weathers.

    python benchmarks/perfect_generator.py [--num_places=512] [--num_noises=3] [--data_dir=DIR]

The aerial image does not show the weather, so a generator that varies it as the world does scores
the same in the spread of sky and light. These images also show the place's own facades and cars,
which the aerial image hides: where they count (facades, labels, PSNR, SSIM), such a generator
scores less than this. (A blurred mean of all weathers would have the higher PSNR.)
Results: docs/evaluation.md.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from retroguide_jax.datasets.procedural_city.materials import SKY
from retroguide_jax.datasets.procedural_city.pairs import SPLITS, View
from retroguide_jax.datasets.procedural_city.render_ground import render_ground
from retroguide_jax.datasets.procedural_city.town import make_scene
from retroguide_jax.datasets.procedural_city.weather import sample_weather

from retroguide_jax.config import load_config
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.evaluation.layout_readers import open_layout_reader
from retroguide_jax.files import to_path
from retroguide_jax.metrics import diversity, pixel_errors, scene_layout, similarity
from retroguide_jax.metrics.statistics import Interval, bootstrap, bootstrap_mean

SPLIT = next(split for split in SPLITS if split.name == "test")


def main() -> None:
    """Prints one line per score, with its 95 % interval over places."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="city")
    parser.add_argument("--data_dir")
    parser.add_argument("--num_places", type=int, default=512)
    parser.add_argument("--num_noises", type=int, default=3)
    args = parser.parse_args()
    config = load_config(args.config)
    builder = open_dataset(config.data, args.data_dir, build=False)
    reader = open_layout_reader(builder, config.data, to_path(builder.data_path).parent)
    examples = list(builder.as_data_source(split=SPLIT.name))[: args.num_places]
    real = np.stack([example["ground"] for example in examples])
    labels = np.stack([example["labels"][..., 0] for example in examples])
    view = builder.builder_config.view
    weathers = range(2, 2 + args.num_noises)
    again = np.stack([render_again(view, int(e["seed"]), weathers) for e in examples], axis=1)
    for name, found in _score(again, real, labels, reader).items():
        print(f"{name}: {found.value:.3f} ({found.low:.3f} to {found.high:.3f})")


def render_again(view: View, seed: int, weathers: Sequence[int]) -> np.ndarray:
    """Panoramas of one place, uint8 [K, H, W, 3], one per weather; 1 is the data set's own."""
    scene = make_scene(seed, SPLIT.style, cell_size=view.cell_size)
    streams = (np.random.SeedSequence([seed, number]) for number in weathers)
    drawn = (sample_weather(np.random.default_rng(stream)) for stream in streams)
    size, fov = view.ground_size, view.vertical_fov
    return np.stack([render_ground(scene, w, size=size, vertical_fov=fov).image for w in drawn])


def _score(again: np.ndarray, real: np.ndarray, labels: np.ndarray, reader) -> dict[str, Interval]:
    """Scores of `again` [K, N, H, W, 3] as noises of the places `real` [N, H, W, 3]."""
    surfaces = {"sky": labels == SKY} | scene_layout.mask_surfaces(labels)
    scores = {}
    for name, mask in surfaces.items():
        colours = np.swapaxes(diversity.mean_colour(again, mask), 0, 1)
        shown = diversity.mean_colour(real, mask)
        is_shown = np.isfinite(shown).all(axis=-1)
        columns = np.asarray(colours)[is_shown], np.asarray(shown)[is_shown]
        scores[f"{name}_spread_ratio"] = bootstrap(_find_spread, columns)
    read = [reader.apply(reader.variables, images)["labels"] for images in again]
    scores["label_consistency"] = bootstrap_mean(scene_layout.compare_noises(read))
    agreement = [scene_layout.label_agreement(of_noise, labels) for of_noise in read]
    scores["label_agreement"] = bootstrap_mean(np.mean(agreement, axis=0))
    for name, metric in {"psnr": pixel_errors.psnr, "ssim_rgb": similarity.ssim_rgb}.items():
        values = [metric(images, real) for images in again]
        scores[name] = bootstrap_mean(np.mean(values, axis=0))
    return scores


def _find_spread(colours: np.ndarray, real: np.ndarray) -> float:
    return diversity.compute_spread_ratio(np.swapaxes(colours, 0, 1), real)[0]


if __name__ == "__main__":
    main()
