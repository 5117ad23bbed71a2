"""image_pairs: your own aerial and ground photographs, from a folder pair or a CSV manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow_datasets as tfds
from retroguide_jax.datasets.image_pairs import listing
from tqdm import tqdm

from retroguide_jax.data import images
from retroguide_jax.errors import UserError

MAX_LISTED = 50  # unusable files told on screen; more would scroll the first ones away


@dataclasses.dataclass(eq=False)
class PairsConfig(tfds.core.BuilderConfig):
    """One folder of pairs, in the state it was listed in.

    Attributes:
      raw_dir: the folder with `aerial/` and `ground/` or a `manifest.csv`, or a .csv file.
      allow_bad: leave unusable files out instead of stopping.
      aerial_size: (height, width) in pixels below which an aerial image is unusable.
      ground_size: the same for ground images.
      found: what was listed.
    """

    raw_dir: str = ""
    allow_bad: bool = False
    aerial_size: tuple[int, int] = (0, 0)
    ground_size: tuple[int, int] = (0, 0)
    found: listing.Listing | None = dataclasses.field(default=None, repr=False)


class Builder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; the stored bytes are the files' own, never re-encoded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    @classmethod
    def make_config(cls, data_config) -> PairsConfig:
        """Returns the builder config for `config.data`.

        Its name carries a hash of the folder's path, of every file's name, size and time of last
        change, and of the rules for unusable files: another folder, or a changed one, is another
        data set and never mixed up with an older copy.

        Args:
          data_config: raw_dir, allow_bad, aerial_size, ground_size.

        Raises:
          UserError: raw_dir is empty, does not exist, or has neither layout.
        """
        if not data_config.raw_dir:
            raise UserError(
                "data set image_pairs needs the folder of your images: set raw_dir "
                "(--config.data.raw_dir=DIR, or --raw_dir=DIR of `retroguide data`)"
            )
        found = listing.list_pairs(Path(data_config.raw_dir).expanduser())
        config = PairsConfig(
            name="",
            raw_dir=str(found.location),
            allow_bad=bool(data_config.allow_bad),
            aerial_size=tuple(data_config.aerial_size),
            ground_size=tuple(data_config.ground_size),
            found=found,
        )
        rules = [config.raw_dir, config.allow_bad, config.aerial_size, config.ground_size]
        digest = hashlib.sha256(json.dumps([rules, found.fingerprint]).encode()).hexdigest()
        slug = re.sub(r"[^a-z0-9]+", "_", found.location.stem.lower()).strip("_")[:40]
        config.name = f"{slug or 'pairs'}_{digest[:8]}"
        return config

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, 3))
        # Not dataset_info_from_configs: it looks for metadata files under the dotted name, and an
        # editable install keeps this folder elsewhere.
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {"id": tfds.features.Text(), "aerial": image, "ground": image}
            ),
            description=f"Pairs of {self.builder_config.raw_dir}",
        )

    def _split_generators(self, dl_manager) -> dict:
        del dl_manager  # nothing is downloaded
        config = self.builder_config
        kept, problems = check_pairs(config.found, config.aerial_size, config.ground_size)
        if problems:
            report_problems(problems, config)
        # TFDS points data_path at the folder being built: the list is renamed into place with it.
        skipped = [dataclasses.asdict(problem) for problem in problems]
        (Path(self.data_path) / "skipped.json").write_text(json.dumps(skipped, indent=2) + "\n")
        splits = listing.assign_splits(kept, str(config.found.location))
        return {name: self._generate_examples(pairs) for name, pairs in splits.items()}

    def _generate_examples(self, pairs: list[listing.Pair]) -> Iterator[tuple[str, dict]]:
        for pair in pairs:
            yield (
                pair.id,
                {
                    "id": pair.id,
                    "aerial": os.fspath(pair.aerial),
                    "ground": os.fspath(pair.ground),
                },
            )


def check_pairs(
    found: listing.Listing, aerial_size: tuple[int, int], ground_size: tuple[int, int]
) -> tuple[list[listing.Pair], list[listing.Problem]]:
    """Decodes every image once, on all cores: only that finds a truncated file.

    Args:
      found: the listed pairs, and what was already wrong with the listing.
      aerial_size: (height, width) in pixels that an aerial image must reach.
      ground_size: the same for ground images.

    Returns:
      (usable pairs, all problems), in the listing's order.
    """

    def check(pair: listing.Pair) -> list[listing.Problem]:
        problems = []
        for path, size in ((pair.aerial, aerial_size), (pair.ground, ground_size)):
            try:
                images.decode_image(path, min_size=size)
            except images.UnreadableImageError as error:
                problems.append(listing.Problem(os.fspath(path), error.reason))
        return problems

    kept: list[listing.Pair] = []
    problems = list(found.problems)
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        results = executor.map(check, found.pairs)
        # The delay keeps a dozen pairs silent.
        bar = tqdm(results, "checking", len(found.pairs), unit=" pairs", delay=2)
        for pair, new in zip(found.pairs, bar, strict=True):
            problems += new
            if not new:
                kept.append(pair)
    return kept, problems


def report_problems(problems: list[listing.Problem], config: PairsConfig) -> None:
    """Lists unusable files by name on stderr, and stops unless they are allowed.

    Raises:
      UserError: `config.allow_bad` is not set.
    """
    for problem in problems[:MAX_LISTED]:
        print(f"  {problem.path}: {problem.reason}", file=sys.stderr)
    if len(problems) > MAX_LISTED:
        print(f"  ... and {len(problems) - MAX_LISTED} more", file=sys.stderr)
    first = f"{problems[0].path}: {problems[0].reason}"
    if not config.allow_bad:
        raise UserError(
            f"{len(problems)} unusable in {config.raw_dir}, the first being {first}; mend or "
            "remove what is listed, or leave it out with allow_bad "
            "(--config.data.allow_bad=True, or --allow_bad of `retroguide data`)"
        )
    print(f"left out: {len(problems)} (listed in skipped.json)", file=sys.stderr, flush=True)
