"""The provenance of an export's weights, without the folders of the machine they were made on."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.results import write_json
from retroguide_jax.exchange.importing import RECORD
from retroguide_jax.files import append_row, read_rows, to_path
from retroguide_jax.provenance import STARTS_PATH
from retroguide_jax.torch_layout.folder import is_model_folder

_FOLDERS = re.compile(r"(^|[\s=,'\"(])(?:~|\.\.)?/(?:[^/\s=,'\"]+/)*")
_PLACES = ("frozen_embedder", "data.raw_dir", "eval.judges")  # fields that name folders


def leave_out_folders(text: str) -> str:
    """A command line whose absolute paths are cut down to their last part."""
    return _FOLDERS.sub(r"\1", text).replace("__main__.py", "retroguide", 1)


def clean_config(config: ConfigDict) -> ConfigDict:
    """The config with the last part of each folder that it names."""
    clean = config.copy_and_resolve_references()
    for field in _PLACES:
        section, _, name = field.rpartition(".")
        part = clean[section] if section else clean
        value = part[name]
        short = tuple(map(_get_last, value)) if isinstance(value, tuple) else _get_last(value)
        part[name] = short
    return clean


def copy_history(config: ConfigDict, workdir: Path, output: Path) -> None:
    """Writes starts.jsonl, and imported.json if the weights were imported, into an export.

    The starts are those of the run, after those of the embedder that it kept (mode frozen).

    Args:
      config: of the run.
      workdir: of the run; or an export, whose history is complete already.
      output: the folder of the export.

    Raises:
      UserError: a file cannot be read or written.
    """
    rows = read_rows(workdir / STARTS_PATH)
    if config.mode == "frozen" and not is_model_folder(workdir):
        with contextlib.suppress(UserError):  # of a bucket that is not reachable from here
            rows = read_rows(to_path(config.frozen_embedder) / STARTS_PATH) + rows
    for row in rows:
        command = leave_out_folders(str(row.get("command", "")))
        append_row(output / STARTS_PATH, row | {"command": command})
    record = read_record(workdir)
    if record is not None:
        names = {_get_last(path): digest for path, digest in record["files"].items()}
        write_json(output / RECORD, record | {"files": names})


def read_record(workdir: Path) -> dict[str, Any] | None:
    """What `weights import` recorded in a work directory; None if its weights are not imported.

    Raises:
      UserError: the file is not JSON.
    """
    path = workdir / RECORD
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(
            f"{path}: is not JSON ({error}); remove it if the weights were not imported"
        ) from None


def _get_last(path: str) -> str:
    return Path(path).name
