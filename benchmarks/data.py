"""Speed of building and reading data sets, as ratios to plain implementations of the same work.

    pip install 'torch==2.13.0'      # for the comparison with a PyTorch DataLoader; else left out
    python benchmarks/data.py [--num_pairs=5000] [--folder=DIR] [--only=reading]

Ratios, above 1 where this package is faster, from one run:

* building without re-encoding, against `cp -r` of the same files (and the writer's peak memory);
* building with crops, against two processes that read, crop and write the same files with Pillow;
* reading augmented batches (256 x 256 aerials, 128 x 512 panoramas) through Grain with two threads,
  against a PyTorch DataLoader with two workers that decodes, resizes and augments the same files:
  with the same functions, to uint8 as here; and as usual with Pillow, to float32. By the clock, and
  by the processor time of all processes, which other work on the machine hardly changes.

Needs some 4 GB in DIR (default: a temporary folder). Results: docs/speed.md.
"""

import argparse
import concurrent.futures
import io
import multiprocessing
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from retroguide_jax.config import load_config
from retroguide_jax.data import images
from retroguide_jax.data.augment import AugmentPair
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.pipeline import make_train_iterator

AERIAL, GROUND = (750, 750), (224, 1232)  # as CVUSA's
TILE = 640  # as VIGOR's
NUM_WORKERS = 2
BATCH_SIZE = 32


def main() -> None:
    """Makes the files, times both sides of each comparison and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_pairs", type=int, default=5000)
    parser.add_argument("--num_batches", type=int, default=60)
    parser.add_argument("--folder")
    parser.add_argument("--only", choices=("building", "reading"), help="default: both")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder)
        _write_images(root / "pairs" / "aerial", args.num_pairs, AERIAL)
        _write_images(root / "pairs" / "ground", args.num_pairs, GROUND)
        if args.only != "reading":
            _compare_untouched(root, args.num_pairs)
            _compare_crops(root, args.num_pairs)
        if args.only != "building":
            _compare_reading(root, args.num_batches)


def _compare_untouched(root: Path, num_pairs: int) -> None:
    pairs = root / "pairs"
    copying = _time(lambda: subprocess.run(["cp", "-r", pairs, root / "copied"], check=True))
    shutil.rmtree(root / "copied")
    config = load_config("image_pairs", [f"--config.data.raw_dir={pairs}"]).data
    building = _time(lambda: open_dataset(config, root / "built"))
    _print_rates("build, bytes untouched", num_pairs, building, "cp -r", copying)
    num_bytes = sum(path.stat().st_size for path in pairs.rglob("*.jpg"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"  {num_bytes / 1e9:.2f} GB of files; peak memory of the writer {peak / 1e9:.2f} GB")


def _compare_crops(root: Path, num_pairs: int) -> None:
    raw = root / "vigor"
    names = [f"p{number},40.7,-74.0,.jpg" for number in range(num_pairs)]
    tiles = [f"satellite_{number}.jpg" for number in range(num_pairs)]
    _write_images(raw / "NewYork" / "satellite", num_pairs, (TILE, TILE), tiles)
    _write_images(raw / "NewYork" / "panorama", num_pairs, (128, 256), names)
    labels = raw / "splits__corrected" / "NewYork"
    labels.mkdir(parents=True)
    (labels / "satellite_list.txt").write_text("".join(f"{tile}\n" for tile in tiles))
    rng = np.random.default_rng(0)
    lines = []
    for name, tile in zip(names, tiles, strict=True):
        row, column = rng.uniform(-100, 100, 2)
        lines.append(f"{name} " + " ".join(f"{tile} {row:.3f} {column:.3f}" for _ in range(4)))
    for split in ("train", "test"):
        half = lines[: num_pairs // 2] if split == "train" else lines[num_pairs // 2 :]
        text = "".join(f"{line}\n" for line in half)
        (labels / f"same_area_balanced_{split}__corrected.txt").write_text(text)
    overrides = [f"--config.data.raw_dir={raw}", "--config.data.allow_bad=true"]
    overrides += ["--config.data.ground_size=(128, 256)"]
    config = load_config("vigor_gen", overrides).data
    building = _time(lambda: open_dataset(config, root / "built"))
    side = round(config.crop_metres / 0.113248)
    work = [(str(raw / "NewYork" / "satellite" / tile), str(root / "cropped"), side, line)
            for tile, line in zip(tiles, lines, strict=True)]  # fmt: skip
    (root / "cropped").mkdir()
    looping = _time(lambda: _crop_in_two_processes(work))
    _print_rates("build with crops", num_pairs, building, "Pillow, 2 processes", looping)


def _crop_in_two_processes(work: list[tuple]) -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(NUM_WORKERS, context) as executor:
        list(executor.map(_crop, work, chunksize=64))


def _crop(item: tuple) -> None:
    path, target, side, line = item
    name, _, row, column, *_ = line.split()
    x, y = 320 - float(column), 320 + float(row)
    left, top = round(x - side / 2), round(y - side / 2)
    with Image.open(path) as image:
        part = image.convert("RGB").crop((left, top, left + side, top + side))
    part.save(Path(target) / Path(path).name, quality=95, subsampling=0)
    panorama = Path(path).parents[1] / "panorama" / name
    (Path(target) / name).write_bytes(panorama.read_bytes())


def _compare_reading(root: Path, num_batches: int) -> None:
    overrides = [
        f"--config.data.raw_dir={root / 'pairs'}",
        "--config.data.aerial_size=(256, 256)",
        "--config.data.ground_size=(128, 512)",
        f"--config.data.num_threads={NUM_WORKERS}",
    ]
    config = load_config("image_pairs", overrides).data
    builder = open_dataset(config, root / "built")
    ours = make_train_iterator(builder, config, batch_size=BATCH_SIZE, seed=0)
    sides = {"ours": ours}
    try:
        import torch
    except ImportError:
        print("read: no torch here, nothing to compare with")
    else:
        paths = [
            (str(path), str(root / "pairs" / "ground" / path.name))
            for path in sorted((root / "pairs" / "aerial").iterdir())
        ]
        for name, is_plain in {"the same functions": False, "Pillow and floats": True}.items():
            loader = torch.utils.data.DataLoader(
                TorchPairs(paths, is_plain),
                BATCH_SIZE,
                shuffle=True,
                num_workers=NUM_WORKERS,
                multiprocessing_context="spawn",
                persistent_workers=True,
            )
            sides[f"DataLoader, {name}"] = _repeat(loader)
    num, costs = num_batches * BATCH_SIZE, {}
    for name, batches in sides.items():
        next(batches)
        used = _processor_seconds()
        seconds = _time(lambda batches=batches: [next(batches) for _ in range(num_batches)])
        costs[name] = seconds, _processor_seconds() - used
    for name, cost in costs.items():
        clock, processor = (theirs / mine for theirs, mine in zip(cost, costs["ours"], strict=True))
        print(
            f"read, {name}: {num / cost[0]:.0f} pairs/s, {num / cost[1]:.0f} per processor second; "
            f"ratio {clock:.2f}, {processor:.2f} per processor second",
            flush=True,
        )


def _repeat(loader) -> Iterator:
    while True:
        yield from loader


def _processor_seconds() -> float:
    """Of this process and of its children that are alive."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


class TorchPairs:
    """A map-style data set of the same files, with the same augmentation.

    It decodes with the same functions to uint8; or plainly with Pillow to float32.
    """

    def __init__(self, paths: list[tuple[str, str]], is_plain: bool):
        self._paths, self._is_plain = paths, is_plain
        self._augment = AugmentPair(rotate=True)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        decode = _decode_plainly if self._is_plain else images.decode_image
        aerial, ground = self._paths[index]
        pair = {"aerial": decode(aerial, (256, 256)), "ground": decode(ground, (128, 512))}
        pair = self._augment.random_map(pair, np.random.default_rng(index))
        return {
            name: images.to_float(image) if self._is_plain else np.ascontiguousarray(image)
            for name, image in pair.items()
        }


def _decode_plainly(path: str, size: tuple[int, int]) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC))


def _write_images(folder: Path, num: int, size: tuple[int, int], names=None) -> None:
    """Writes JPEGs of smooth noise with some grain, about as large as photographs of that size."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    kinds = []
    for _ in range(16):
        coarse = rng.integers(0, 256, (size[0] // 24 + 1, size[1] // 24 + 1, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))
        grainy = smooth + rng.normal(0, 8, smooth.shape)
        buffer = io.BytesIO()
        Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
        kinds.append(buffer.getvalue())
    for number in range(num):
        name = names[number] if names else f"{number:06d}.jpg"
        # A JPEG comment of its own makes every file unique.
        content = kinds[number % len(kinds)]
        comment = b"\xff\xfe" + (2 + 8).to_bytes(2) + number.to_bytes(8)
        (folder / name).write_bytes(content[:2] + comment + content[2:])


def _time(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _print_rates(what: str, num: int, ours: float, other: str, theirs: float) -> None:
    print(
        f"{what}: {ours:.2f} s ({num / ours:.0f} pairs/s); {other}: {theirs:.2f} s; "
        f"ratio {theirs / ours:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
