"""Opens data sets by name: finds the builder and its config, and builds what is missing."""

import contextlib
import importlib
import io
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from google.protobuf import json_format

from retroguide_jax.data import records
from retroguide_jax.errors import UserError
from retroguide_jax.files import is_in_bucket, lock_folder, to_path
from retroguide_jax.progress import print_line
from retroguide_jax.text import find_nearest, one_line

NAMES = ("procedural_city", "image_pairs", "cvusa", "cvact", "vigor_gen")
_INFO_FILE = "dataset_info.json"  # TFDS writes it last, and renames the folder after that


def open_dataset(
    data_config, data_dir: str | os.PathLike | None, *, build: bool = True
) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set that is complete on disk, building it first if missing.

    A build writes to a temporary folder that is renamed once complete: a build that fails or is
    killed leaves no folder that looks complete, and the next build deletes its leftovers.

    Args:
      data_config: `config.data`; for data sets made from photographs, an empty raw_dir means the
        only copy built already, which can be used without the photographs.
      data_dir: folder of built data sets; None or "" for TFDS's default ($TFDS_DATA_DIR or
        ~/tensorflow_datasets).
      build: whether to build a missing data set (True) or raise an error (False).

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
    """Returns the builder of the gallery tiles that belong to no pair, built if missing.

    These tiles and the aerials of the test pairs form the complete gallery. The tiles are stored
    in a separate data set, `<name>_gallery`, under the config name of the pairs: only retrieval
    reads them, and they may take more space than the pairs.

    Args:
      data_config: `config.data`, as for `open_dataset`.
      data_dir: as for `open_dataset`.

    Returns:
      A TFDS builder of {"id", "aerial"} with the split "test", for `pipeline.iterate_tiles`; None
      if the data set has no such tiles.

    Raises:
      UserError: as `open_dataset`.
    """
    gallery_class = getattr(load_builder_class(data_config.name), "GALLERY", None)
    if gallery_class is None:
        return None
    if not data_config.raw_dir:
        return _open_built_gallery(data_config, data_dir)
    config = load_builder_class(data_config.name).make_config(data_config)  # pyright: ignore[reportAttributeAccessIssue]
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
      UserError: no data set has that name; the message suggests the nearest one.
    """
    if name not in NAMES:
        raise UserError(f"no data set {name!r}; {_suggest(name, NAMES)}")


def load_builder_class(name: str) -> type[tfds.core.GeneratorBasedBuilder]:
    """The TFDS builder class of a data set.

    Raises:
      UserError: no data set has that name.
    """
    check_name(name)
    return importlib.import_module(f"retroguide_jax.datasets.{name}.{name}_dataset_builder").Builder


def _open_built_copy(data_config, data_dir) -> tfds.core.DatasetBuilder:
    """Opens the only copy of a data set of photographs in data_dir, whatever its source files."""
    root = to_path(_expand(data_dir) or tfds.core.constants.DATA_DIR)  # pyright: ignore[reportAttributeAccessIssue]
    variant = load_builder_class(data_config.name).choose_variant(data_config)  # pyright: ignore[reportAttributeAccessIssue]
    # The pattern includes the hash because one variant's name may be a prefix of another's.
    pattern = f"{variant}_{'[0-9a-f]' * 8}" if variant else "*"
    infos = sorted((root / data_config.name).glob(f"{pattern}/*/{_INFO_FILE}"))
    complete = [path.parent for path in infos if "incomplete" not in path.parent.name]
    # A copy may exist in several versions: take the newest.
    folders = list({folder.parent: folder for folder in complete}.values())
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
    """Opens the gallery that belongs to the only built copy of the pairs."""
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
    """The builder config: made from raw_dir for builders of the user's files, else a fixed one."""
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
    logging.set_verbosity(logging.ERROR)  # TFDS warns about every config not in BUILDER_CONFIGS
    try:
        return builder_class(config=config, data_dir=data_dir, file_format="array_record")
    except (OSError, ValueError, AssertionError, json_format.ParseError) as error:
        # The folder exists but its dataset_info.json is missing, not JSON, or of another version
        # (where TFDS raises AssertionError).
        where = data_dir or "TFDS's default data_dir"
        raise UserError(
            f"the copy of {builder_class.name}/{config.name} in {where} cannot be opened "
            f"({one_line(error)}); delete it and it is built again"
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _check_complete(builder: tfds.core.DatasetBuilder, path: Path) -> None:
    """Raises UserError if files are missing, as in a partial copy, rather than fail mid-epoch."""
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
    print_line(f"building data set {builder.info.full_name} in {path}")
    # The builders report their own progress on stderr; TFDS would add a progress bar per shard and
    # print about downloads on stdout.
    tfds.disable_progress_bar()
    try:
        # The lock allows one build at a time, so any unfinished folder is a leftover.
        with lock_folder(path.parent):
            if path.exists():  # built by another process while this one waited
                builder.info.read_from_directory(path)
                return
            for leftover in path.parent.glob("*incomplete*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with contextlib.redirect_stdout(io.StringIO()), records.uncompressed():
                builder.download_and_prepare(file_format="array_record")
    except (OSError, RuntimeError) as error:
        # ArrayRecord's writer raises RuntimeError when the disk is full.
        if isinstance(error, RuntimeError) and "write() failed" not in str(error):
            raise
        raise UserError(
            f"data set {builder.info.full_name} could not be built in {path}: {one_line(error)}; "
            "free some space or choose another --data_dir"
        ) from error


def _expand(data_dir: str | os.PathLike | None) -> str | None:
    """data_dir with ~ expanded; a bucket is checked by `to_path` before TFDS accesses it."""
    return os.path.expanduser(to_path(data_dir)) if data_dir else None


def _suggest(name: str, names: Iterable[str]) -> str:
    nearest = find_nearest(name, names)
    known = f"there are {', '.join(names)}"
    return f"did you mean {nearest!r}? {known}" if nearest else known
