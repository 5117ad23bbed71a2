"""Checkpoints of {model, trainer, data iterator, config, format version} with Orbax.

    WORKDIR/checkpoints/STEP/{model,trainer,data,meta}   the newest few, to resume from
    WORKDIR/best/STEP/{model,meta}                       the best by the validation metric
    WORKDIR/finished.json                                {"step"}, once the last step is saved

`model` holds what inference needs (the averaged weights), `trainer` the rest of the state. Both
are plain trees of arrays: no framework objects, so that they outlive today's libraries. Orbax
writes beside and renames, so a killed run leaves only whole checkpoints.
"""

import functools
import json
import logging
import sys
from pathlib import Path

import grain
import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from retroguide_jax.config import config_from_json, config_to_json
from retroguide_jax.errors import UserError

FORMAT_VERSION = 1
MODEL_KEYS = ("step", "ema")
_FINISHED = "finished.json"


class Checkpoints:
    """Saves and restores one run's checkpoints; every process calls every method."""

    def __init__(self, workdir: Path, keep: int):
        hush_orbax()
        # On CPU a saved array may alias the buffer that the next step is given to overwrite.
        background = jax.default_backend() != "cpu"
        options = {"enable_async_checkpointing": background, "create": True}
        self._latest = ocp.CheckpointManager(
            workdir.absolute() / "checkpoints",
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, **options),
        )
        self._best = ocp.CheckpointManager(
            workdir.absolute() / "best",
            options=ocp.CheckpointManagerOptions(max_to_keep=1, **options),
        )

    @property
    def latest_step(self) -> int | None:
        """The newest step there is, or None."""
        return self._latest.latest_step()

    def save(self, step: int, state: dict, iterator: grain.DatasetIterator, config: ConfigDict):
        """Saves everything needed to go on bitwise as if never stopped.

        Raises:
          UserError: the files cannot be written (a full disk, say).
        """
        trainer = {key: value for key, value in state.items() if key not in MODEL_KEYS}
        self._save(
            self._latest,
            step,
            model=ocp.args.StandardSave({key: state[key] for key in MODEL_KEYS}),
            trainer=ocp.args.StandardSave(trainer),
            data=grain.checkpoint.CheckpointSave(iterator),
            meta=_meta(step, config),
        )

    def save_best(self, step: int, state: dict, config: ConfigDict, value: float) -> bool:
        """Saves the model if `value` beats the best so far (kept in the files, hence resumable)."""
        best_step = self._best.latest_step()
        if best_step is not None:
            meta = self._best.restore(
                best_step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
            )["meta"]
            if value <= meta["value"]:
                return False
        self._save(
            self._best,
            step,
            model=ocp.args.StandardSave({key: state[key] for key in MODEL_KEYS}),
            meta=_meta(step, config, value=value),
        )
        return True

    def _save(self, manager: ocp.CheckpointManager, step: int, **items):
        try:
            # A step that is there already was made by the same run up to the same point.
            if step not in manager.all_steps():
                manager.save(step, args=ocp.args.Composite(**items), force=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{manager.directory}/{step}: the checkpoint cannot be written: {_brief(error)}; "
                "the checkpoints before it are whole: make room and run the same command again"
            ) from error

    def restore(self, abstract: dict, iterator: grain.DatasetIterator, config: ConfigDict):
        """Restores the newest checkpoint into the shardings of `abstract`, and moves `iterator`.

        Args:
          abstract: the state as ShapeDtypeStructs with shardings.
          iterator: a fresh training iterator; its position is set.
          config: the config of this run, which must be the one the checkpoint was made with.

        Returns:
          The state, or None where there is no checkpoint.

        Raises:
          UserError: the checkpoint is damaged, of another format, or of another config.
        """
        step = self._latest.latest_step()
        if step is None:
            return None
        read_meta(self._latest, step, config)
        trainer = {key: value for key, value in abstract.items() if key not in MODEL_KEYS}
        items = ocp.args.Composite(
            model=ocp.args.StandardRestore({key: abstract[key] for key in MODEL_KEYS}),
            trainer=ocp.args.StandardRestore(trainer),
            data=grain.checkpoint.CheckpointRestore(iterator),
        )
        restored = read_items(self._latest, step, items)
        return {**restored["model"], **restored["trainer"]}

    def close(self):
        """Waits for saves under way."""
        self._latest.close()
        self._best.close()


def list_steps(workdir: Path) -> list[int]:
    """Steps of the whole checkpoints in WORKDIR/checkpoints, ascending; [] where there is none."""
    folder = workdir / "checkpoints"
    # Orbax gives a checkpoint its plain number last, by renaming.
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())


def is_finished(workdir: Path) -> bool:
    """Whether training has ended: no further checkpoint will come."""
    return (workdir / _FINISHED).exists()


def mark_finished(workdir: Path, step: int | None) -> None:
    """Says that training has ended at `step`; None takes that back."""
    path = workdir / _FINISHED
    if step is None:
        path.unlink(missing_ok=True)
        return
    beside = path.with_suffix(".json.tmp")
    beside.write_text(json.dumps({"step": step}) + "\n")
    beside.replace(path)


def read_meta(manager: ocp.CheckpointManager, step: int, config: ConfigDict | None = None):
    """The checkpoint's meta item: {"format", "step", "config", ...} with the config parsed.

    Raises:
      UserError: damaged, another format version, or (with `config`) another config.
    """
    folder = manager.directory / str(step)
    meta = read_items(manager, step, ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
    try:
        version, saved = meta["format"], config_from_json(meta["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, error) from error
    if version != FORMAT_VERSION:
        raise UserError(f"{folder}: format {version}; this version reads format {FORMAT_VERSION}")
    if config is not None:
        differing = _differing_fields(saved, config)
        if differing:
            raise UserError(
                f"{folder} was made with another config: {'; '.join(differing)}; "
                "run with the old values, or use another --workdir"
            )
    return {**meta, "config": saved}


def read_items(manager: ocp.CheckpointManager, step: int, items: ocp.args.Composite):
    """Items of a checkpoint.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return manager.restore(step, args=items)
    except Exception as error:  # Orbax reports damaged files by bare Exceptions, among others
        raise _damaged(manager.directory / str(step), error) from error


@functools.cache
def hush_orbax():
    """Keeps what Orbax also raises from being told in tracebacks, by its logs and by threads.

    After one failed read or write, tensorstore's other ones report to an event loop that is gone,
    each by an exception that nothing can catch and some only while the process ends: hence hooks
    for good, which let everything else through.
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
        if not is_late(unraisable.exc_value):
            unraisablehook(unraisable)

    sys.excepthook, sys.unraisablehook = report, report_unraisable


def _meta(step: int, config: ConfigDict, **more):
    content = {"format": FORMAT_VERSION, "step": step, "config": config_to_json(config), **more}
    return ocp.args.JsonSave(content)


def _damaged(folder, error: Exception) -> UserError:
    return UserError(
        f"{folder}: the checkpoint cannot be read: {_brief(error)}; delete that folder to go on "
        "from the one before it, if there is one"
    )


def _brief(error: Exception) -> str:
    error = error.__cause__ or error
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _differing_fields(saved: ConfigDict, given: ConfigDict) -> list[str]:
    def flatten(config, prefix=""):
        for name, value in config.items():
            if isinstance(value, ConfigDict):
                yield from flatten(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    old, new = dict(flatten(saved)), dict(flatten(given))
    return [
        f"config.{name} was {old.get(name)!r}, now {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
