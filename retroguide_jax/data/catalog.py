"""Data sets by name: which builder, which of its configs, built when missing."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from google.protobuf import json_format

from retroguide_jax.errors import UserError

_BUILDER_MODULES = {
    name: f"retroguide_jax.datasets.{name}.{name}_dataset_builder"
    for name in ("procedural_city", "image_pairs")
}
_INFO_FILE = "dataset_info.json"  # TFDS writes it last, and renames the folder after that


def open_dataset(
    data_config, data_dir: str | os.PathLike | None, *, build: bool = True
) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set that is complete on disk, building it first if missing.

    A build happens in a folder of another name that is renamed when all is written: one that fails
    or is killed leaves nothing that later looks complete.

    Args:
      data_config: `config.data`: name, config_name, raw_dir, allow_bad, aerial_size, ground_size.
      data_dir: where built data sets live; None or "" for TFDS's own place ($TFDS_DATA_DIR or
        ~/tensorflow_datasets).
      build: whether a missing data set is built (True) or an error (False).

    Returns:
      A TFDS builder, ready for `as_data_source`.

    Raises:
      UserError: the name or config is unknown, raw_dir is missing or its files cannot be used, the
        built copy is damaged, or it cannot be written.
    """
    builder_class = _load_builder_class(data_config.name)
    config = _choose_builder_config(builder_class, data_config)
    builder = _construct(builder_class, config, data_dir)
    path = Path(builder.data_path)
    if path.exists():
        _check_complete(builder, path)
    elif build:
        _build(builder, path)
    else:
        raise UserError(
            f"data set {builder.info.full_name} is not built in {builder.data_dir_root}; build it "
            f"with `retroguide data build {data_config.name}` or give another --data_dir"
        )
    return builder


def check_name(name: str) -> None:
    """Checks the name of a data set.

    Raises:
      UserError: there is none of that name; the message tells the nearest.
    """
    if name not in _BUILDER_MODULES:
        raise UserError(f"no data set {name!r}; {_suggest(name, _BUILDER_MODULES)}")


def _load_builder_class(name: str) -> type[tfds.core.GeneratorBasedBuilder]:
    check_name(name)
    return importlib.import_module(_BUILDER_MODULES[name]).Builder


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
    data_dir = os.path.expanduser(data_dir) if data_dir else None
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
            f"({_one_line(error)}); delete it and it is built again"
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _check_complete(builder: tfds.core.DatasetBuilder, path: Path) -> None:
    """A folder copied by hand may lack files: better one line now than a crash in an epoch."""
    missing = [] if (path / _INFO_FILE).exists() else [_INFO_FILE]
    for split in builder.info.splits.values():
        missing += [Path(p).name for p in split.filepaths if not Path(p).exists()]
    if missing or not builder.info.splits:
        what = f"lacks {missing[0]}" if missing else "has no splits"
        raise UserError(f"the data set in {path} {what}; delete that folder and it is built again")


def _build(builder: tfds.core.DatasetBuilder, path: Path) -> None:
    print(f"building data set {builder.info.full_name} in {path}", file=sys.stderr, flush=True)
    # The builders tell their own progress on stderr; TFDS would add a bar for each shard and, on
    # stdout, talk of downloads.
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(file_format="array_record")
    except OSError as error:
        if path.exists():
            # Another process built the same data set meanwhile; its copy is as good.
            builder.info.read_from_directory(path)
            return
        raise UserError(
            f"data set {builder.info.full_name} could not be built in {path}: {_one_line(error)}; "
            "free some space or choose another --data_dir"
        ) from error


def _suggest(name: str, names: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, names, n=1)
    known = f"there are {', '.join(names)}"
    return f"did you mean {nearest[0]!r}? {known}" if nearest else known


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
