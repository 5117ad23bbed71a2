"""Reads checkpoints that may be damaged, with the same result on all processes."""

import functools
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from retroguide_jax.checkpoints.integrity import DamagedCheckpointError, compute_checksum
from retroguide_jax.config import config_from_json
from retroguide_jax.errors import UserError
from retroguide_jax.files import is_in_bucket, make_absolute
from retroguide_jax.parallel.processes import gather_rows, is_writer

FORMAT_VERSION = 2
_META_FIELDS = ("format", "step", "config", "checksums")


class Reader:
    """Reads one folder of checkpoints; every process calls every method with equal arguments.

    Each process reads without waiting for the others; then all processes receive the errors of each
    one, since only one process may need a damaged file.
    """

    def __init__(self, folder: Path):
        hush_orbax()
        self.folder = make_absolute(folder)
        own = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"reader{own}"
        )
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(read_only=True, multiprocessing_options=alone),
        )

    def find_steps(self) -> list[int]:
        """Steps of the checkpoints as the writing process sees them, the newest first."""
        steps = find_steps(self.folder) if is_writer() else []
        return gather_rows(np.array(steps, np.int64)).tolist()[::-1]

    def read_meta(self, step: int, *fields: str) -> dict[str, Any]:
        """The checkpoint's meta item, see saving.py, with the config parsed.

        Args:
          step: the checkpoint's step.
          *fields: fields that it must have besides those that every checkpoint has.

        Raises:
          DamagedCheckpointError: it cannot be read.
          UserError: it is of another format version.
        """
        meta = self._read(step, meta=ocp.args.JsonRestore())["meta"]
        folder = self.folder / str(step)
        version = meta.get("format") if isinstance(meta, dict) else None
        if isinstance(version, int) and version != FORMAT_VERSION:
            raise UserError(
                f"{folder}: format {version}; this version reads format {FORMAT_VERSION}: "
                "use the version that wrote it, or start again in another --workdir"
            )
        try:
            config = config_from_json(meta["config"])
            complete = meta.keys() >= {*_META_FIELDS, *fields}
        except (KeyError, TypeError, UserError):
            complete = False
        if not complete:
            raise DamagedCheckpointError(folder, "its meta item is incomplete")
        return {**meta, "config": config}

    def read_items(self, step: int, meta: dict[str, Any], **items: Any) -> dict[str, Any]:
        """Reads trees of arrays and checks them against the checksums they were saved with.

        Args:
          step: the checkpoint's step.
          meta: its meta item, from `read_meta`.
          **items: by name, the tree of ShapeDtypeStructs with shardings.

        Raises:
          DamagedCheckpointError: they cannot be read, or are not what was saved.
        """
        args = {name: ocp.args.StandardRestore(tree) for name, tree in items.items()}
        restored = self._read(step, **args)
        for name in items:
            if compute_checksum(restored[name]) != meta["checksums"].get(name):
                raise DamagedCheckpointError(
                    self.folder / str(step), f"its item {name} has another checksum than was saved"
                )
        return restored

    def _read(self, step: int, **items) -> dict[str, Any]:
        restored, reason = {}, ""
        try:
            restored = dict(self._manager.restore(step, args=ocp.args.Composite(**items)).items())
        except Exception as error:  # Orbax reports damaged files by bare Exceptions, among others
            reason = describe_error(error)
        reasons = [reason for reason in gather_rows(np.array([reason])).tolist() if reason]
        if reasons:
            raise DamagedCheckpointError(self.folder / str(step), reasons[0])
        return restored


def find_steps(folder: Path) -> list[int]:
    """Steps of the finished checkpoints in a folder, ascending; [] where there is none."""
    # Orbax renames a checkpoint to its plain step number only when it is complete.
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(path.name) for path in paths if path.name.isdecimal() and _is_complete(path))


def _is_complete(folder: Path) -> bool:
    # A bucket cannot rename: there Orbax writes this file last instead.
    return not is_in_bucket(folder) or (folder / "commit_success.txt").exists()


def describe_error(error: Exception) -> str:
    """The cause of one of Orbax's errors in a few words."""
    cause = error.__cause__ or error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    if "tree structures do not match" in lines[0]:
        return "its arrays are not those of this version's networks: use the version that wrote it"
    return lines[0].partition(" See full TensorStore")[0][:200]


@functools.cache
def hush_orbax() -> None:
    """Silences Orbax's duplicate reports (logs, background tracebacks) of errors it also raises.

    After one failed read or write, tensorstore's pending ones report to a closed event loop, and
    Orbax's coroutines that wait for them are closed: each raises an exception that no caller can
    catch, some only while the process ends. The hooks therefore stay installed; they pass on every
    other exception.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    excepthook, unraisablehook = sys.excepthook, sys.unraisablehook

    def is_late(error: BaseException | None) -> bool:
        return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"

    def report(kind, error, trace):
        if not is_late(error):
            excepthook(kind, error, trace)

    def report_unraisable(unraisable):
        if not is_late(unraisable.exc_value) and not _is_of_orbax(unraisable.object):
            unraisablehook(unraisable)

    sys.excepthook, sys.unraisablehook = report, report_unraisable
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def _is_of_orbax(source: object) -> bool:
    code = getattr(source, "cr_code", None) or getattr(source, "ag_code", None)  # of coroutines
    return code is not None and "orbax" in Path(code.co_filename).parts
