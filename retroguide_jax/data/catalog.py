"""Data sets by name: which builder, which of its configs, built when missing."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from google.protobuf import json_format

from retroguide_jax.data import records
from retroguide_jax.errors import UserError
from retroguide_jax.files import is_in_bucket, lock_folder, to_path
from retroguide_jax.text import find_nearest, one_line

NAMES = ("procedural_city", "image_pairs", "cvusa", "cvact", "vigor_gen")
_INFO_FILE = "dataset_info.json"  # TFDS writes it last, and renames the folder after that


def open_dataset(
    data_config, data_dir: str | os.PathLike | None, *, build: bool = True
) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set that is complete on disk, building it first if missing.

    A build happens in a folder of another name that is renamed when all is written: one that fails
    or is killed leaves nothing that later looks complete, and the next build sweeps it away.

    Args:
      data_config: `config.data`; of data sets made from photographs an empty raw_dir means the one
        copy that is built already, so that it can be used where the photographs are not.
      data_dir: where built data sets live; None or "" for TFDS's own place ($TFDS_DATA_DIR or
        ~/tensorflow_datasets).
      build: whether a missing data set is built (True) or an error (False).

    Returns:
      A TFDS builder, ready for `as_data_source`.

    Raises:
      UserError: the name or config is unknown, raw_dir is missing or its files cannot be used, the
        built copy is damaged, or it cannot be written.
    """
    builder_class = load_builder_class(data_config.name)
    if hasattr(builder_class, "make_config") and not data_config.raw_dir:
        return _open_built_copy(data_config, data_dir)
    config = _choose_builder_config(builder_class, data_config)
    builder = _construct(builder_class, config, data_dir)
    if not build and not to_path(builder.data_path).exists():
        raise UserError(
            f"data set {builder.info.full_name} is not built in {builder.data_dir_root}; build it "
            f"with `retroguide data build {data_config.name}` or give another --data_dir"
        )
    return _complete(builder)


def open_gallery(
    data_config, data_dir: str | os.PathLike | None
) -> tfds.core.DatasetBuilder | None:
    """Returns the builder of a data set's gallery tiles that no pair uses, built if missing.

    With the aerials of the test pairs they are the whole gallery. They lie in a data set of their
    own, `<name>_gallery`, under the name of the pairs' config: only retrieval reads them, and they
    may take more room than the pairs.

    Args:
      data_config: `config.data`, as for `open_dataset`.
      data_dir: as for `open_dataset`.

    Returns:
      A TFDS builder of {"id", "aerial"} with the split "test", for `pipeline.iterate_tiles`; None
      where the data set has no such tiles.

    Raises:
      UserError: as `open_dataset`.
    """
    gallery_class = getattr(load_builder_class(data_config.name), "GALLERY", None)
    if gallery_class is None:
        return None
    if not data_config.raw_dir:
        return _open_built_gallery(data_config, data_dir)
    config = load_builder_class(data_config.name).make_config(data_config)
    if not config.found.tiles:
        return None
    return _complete(_construct(gallery_class, config, data_dir))


def _complete(builder: tfds.core.DatasetBuilder) -> tfds.core.DatasetBuilder:
    path = to_path(builder.data_path)
    if path.exists():
        _check_complete(builder, path)
    else:
        _build(builder, path)
    return builder


def check_name(name: str) -> None:
    """Checks the name of a data set.

    Raises:
      UserError: there is none of that name; the message tells the nearest.
    """
    if name not in NAMES:
        raise UserError(f"no data set {name!r}; {_suggest(name, NAMES)}")


def load_builder_class(name: str) -> type[tfds.core.GeneratorBasedBuilder]:
    """The TFDS builder class of a data set.

    Raises:
      UserError: there is none of that name.
    """
    check_name(name)
    return importlib.import_module(f"retroguide_jax.datasets.{name}.{name}_dataset_builder").Builder


def _open_built_copy(data_config, data_dir) -> tfds.core.DatasetBuilder:
    """The one copy of a data set of photographs in data_dir, whatever it was made from."""
    root = to_path(_expand(data_dir) or tfds.core.constants.DATA_DIR)
    variant = load_builder_class(data_config.name).choose_variant(data_config)
    # Up to the hash: one variant's name may begin another's.
    pattern = f"{variant}_{'[0-9a-f]' * 8}" if variant else "*"
    infos = sorted((root / data_config.name).glob(f"{pattern}/*/{_INFO_FILE}"))
    whole = [path.parent for path in infos if "incomplete" not in path.parent.name]
    # Of a copy that an older version has built too, the newest.
    folders = list({folder.parent: folder for folder in whole}.values())
    if not folders:
        raise UserError(
            f"no copy of {data_config.name} is built in {root}: set raw_dir, the folder of the "
            "images (--config.data.raw_dir=DIR, or --raw_dir=DIR of `retroguide data`)"
        )
    if len(folders) > 1:
        raise UserError(
            f"{root} holds {len(folders)} copies of {data_config.name}: "
            f"{', '.join(folder.parent.name for folder in folders)}; say which by raw_dir, or "
            "delete the others"
        )
    return _open_folder(folders[0])


def _open_built_gallery(data_config, data_dir) -> tfds.core.DatasetBuilder | None:
    """The gallery of the one copy of the pairs."""
    pairs = _open_built_copy(data_config, data_dir)
    if not (pairs.info.metadata or {}).get("num_tiles"):
        return None
    copy = to_path(pairs.data_path)
    folder = copy.parents[2] / f"{data_config.name}_gallery" / copy.parent.name / copy.name
    if not (folder / _INFO_FILE).exists():
        raise UserError(
            f"the gallery of {copy} is not built in {folder}: set raw_dir, the folder of the images"
        )
    return _open_folder(folder)


def _open_folder(folder: Path) -> tfds.core.DatasetBuilder:
    try:
        builder = tfds.builder_from_directory(folder)
    except (OSError, ValueError, AssertionError, json_format.ParseError) as error:
        raise UserError(f"{folder} cannot be opened ({one_line(error)}); delete it") from error
    _check_complete(builder, folder)
    return builder


def _choose_builder_config(builder_class, data_config) -> tfds.core.BuilderConfig:
    """Builders of the user's own files make a config from the folder; others have fixed ones."""
    if hasattr(builder_class, "make_config"):
        return builder_class.make_config(data_config)
    names = [config.name for config in builder_class.BUILDER_CONFIGS]
    name = data_config.config_name or names[0]
    if name not in names:
        raise UserError(
            f"data set {data_config.name} has no config {name!r}; {_suggest(name, names)}"
        )
    return builder_class.BUILDER_CONFIGS[names.index(name)]


def _construct(builder_class, config, data_dir) -> tfds.core.DatasetBuilder:
    data_dir = _expand(data_dir)
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # TFDS warns of every config that is not a fixed one
    try:
        return builder_class(config=config, data_dir=data_dir, file_format="array_record")
    except (OSError, ValueError, AssertionError, json_format.ParseError) as error:
        # A folder of the right name whose dataset_info.json is missing, no JSON, or of another
        # version (for which TFDS has an assertion).
        where = data_dir or "TFDS's default data_dir"
        raise UserError(
            f"the copy of {builder_class.name}/{config.name} in {where} cannot be opened "
            f"({one_line(error)}); delete it and it is built again"
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _check_complete(builder: tfds.core.DatasetBuilder, path: Path) -> None:
    """A folder copied by hand may lack files: better one line now than a crash in an epoch."""
    missing = [] if (path / _INFO_FILE).exists() else [_INFO_FILE]
    for split in builder.info.splits.values():
        missing += [path.name for path in map(to_path, split.filepaths) if not path.exists()]
    if missing or not builder.info.splits:
        what = f"lacks {missing[0]}" if missing else "has no splits"
        raise UserError(f"the data set in {path} {what}; delete that folder and it is built again")


def _build(builder: tfds.core.DatasetBuilder, path: Path) -> None:
    if is_in_bucket(path):
        raise UserError(
            f"data set {builder.info.full_name} is not in {builder.data_dir_root}, and ArrayRecord "
            "cannot write to a bucket: build it in a directory and copy that (gcloud storage cp -r)"
        )
    print(f"building data set {builder.info.full_name} in {path}", file=sys.stderr, flush=True)
    # The builders tell their own progress on stderr; TFDS would add a bar for each shard and, on
    # stdout, talk of downloads.
    tfds.disable_progress_bar()
    try:
        # One build at a time: what is found unfinished is then a leftover.
        with lock_folder(path.parent):
            if path.exists():  # built by another process while this one waited
                builder.info.read_from_directory(path)
                return
            for leftover in path.parent.glob("*incomplete*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with contextlib.redirect_stdout(io.StringIO()), records.uncompressed():
                builder.download_and_prepare(file_format="array_record")
    except (OSError, RuntimeError) as error:
        # ArrayRecord's writer has a RuntimeError for a full disk.
        if isinstance(error, RuntimeError) and "write() failed" not in str(error):
            raise
        raise UserError(
            f"data set {builder.info.full_name} could not be built in {path}: {one_line(error)}; "
            "free some space or choose another --data_dir"
        ) from error


def _expand(data_dir: str | os.PathLike | None) -> str | None:
    """data_dir with ~ expanded; checked first where it is in a bucket, before TFDS looks at it."""
    return os.path.expanduser(to_path(data_dir)) if data_dir else None


def _suggest(name: str, names: Iterable[str]) -> str:
    nearest = find_nearest(name, names)
    known = f"there are {', '.join(names)}"
    return f"did you mean {nearest!r}? {known}" if nearest else known
