"""Checkpoints of {model, trainer, meta} with Orbax.

    WORKDIR/checkpoints/STEP/{model,trainer,meta}   the newest few, to resume from
    WORKDIR/checkpoints/damaged_STEP                damaged checkpoints, moved aside
    WORKDIR/checkpoints/diverged_STEP               checkpoints that a roll-back passed over
    WORKDIR/best/STEP/{model,meta}                  the best by the validation metric
    WORKDIR/finished.json                           {"step"}, once the last step is saved

`model` holds what inference needs (the averaged weights), `trainer` the rest of the state; both are
plain trees of arrays: no framework objects, so that they outlive today's libraries. `meta` is JSON:

    format, step, config   of the run
    checksums              of the other items, by name
    position               global batches drawn from the training stream so far
    streak                 updates skipped in a row, up to this step
    rollbacks              the steps that the run went back to so far

Nothing in a checkpoint depends on the processes or devices that wrote it. Orbax writes to a
temporary folder and renames it, so a killed run leaves only intact checkpoints.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from retroguide_jax.checkpoints.integrity import (
    DamagedCheckpointError,
    compute_checksum,
    make_damage_error,
    report_damage,
    set_aside,
)
from retroguide_jax.checkpoints.reading import (
    FORMAT_VERSION,
    Reader,
    describe_error,
    find_steps,
    hush_orbax,
)
from retroguide_jax.checkpoints.resuming import check_change
from retroguide_jax.config import config_to_json
from retroguide_jax.errors import UserError
from retroguide_jax.files import make_absolute, to_path, write_beside
from retroguide_jax.parallel.processes import is_writer
from retroguide_jax.state import TrainState
from retroguide_jax.torch_layout.folder import is_model_folder

MODEL_KEYS = ("step", "ema")
_FINISHED = "finished.json"


@dataclasses.dataclass(frozen=True)
class Progress:
    """Everything that a run needs to resume."""

    state: TrainState
    position: int = 0  # global batches drawn
    rollbacks: tuple[int, ...] = ()  # steps that the run was rolled back to


class Checkpoints:
    """Saves and restores one run's checkpoints; every process calls every method."""

    def __init__(self, workdir: Path, config: ConfigDict, allowed: Collection[str] = ()):
        """Opens or makes the folders.

        Args:
          workdir: the run's work directory.
          config: the run's config, saved in each checkpoint.
          allowed: fields in which it may differ from that of the checkpoint to resume from, see
            `resuming.check_change`.

        Raises:
          UserError: the folder holds an exported model.
        """
        if is_model_folder(workdir):
            raise UserError(
                f"{workdir}: holds an exported model, which cannot be resumed; name another "
                "folder, made by `retroguide weights import` to start from these weights"
            )
        hush_orbax()
        self._config, self._allowed = config, allowed
        self._latest = _open(workdir / "checkpoints", config.train.keep_checkpoints)
        self._best = _open(workdir / "best", 1)

    def save(self, progress: Progress) -> None:
        """Saves everything needed for a bit-exact resume.

        Raises:
          UserError: the files cannot be written (a full disk, say).
        """
        model, trainer = split(progress.state)
        counts = jax.device_get(progress.state.skipped).values()
        more = {
            "position": progress.position,
            "streak": max(int(count["streak"]) for count in counts),
            "rollbacks": progress.rollbacks,
        }
        self._save(self._latest, {"model": model, "trainer": trainer}, more)

    def save_best(self, state: TrainState, merit: float, score: str) -> bool:
        """Saves the model if it is at least as good as the best so far.

        In a tie, the newer model replaces the older one: a saturated score is no reason to prefer
        the older one. The best so far is read from its file, so that it survives a restart.

        Args:
          state: the training state.
          merit: higher is better.
          score: the name of the score behind it; a best model by another score is replaced.
        """
        best_step, best_merit = self._find_best(score)
        if best_step is not None and merit < best_merit:
            return False
        if best_step is not None and best_step == int(state.step):
            self._best.delete(best_step)  # after a roll-back, the run reaches the same step again
        self._save(self._best, {"model": split(state)[0]}, {"value": merit, "score": score})
        return True

    def _find_best(self, score: str) -> tuple[int | None, float]:
        self._best.wait_until_finished()
        reader = Reader(to_path(self._best.directory))
        for step in reader.find_steps():
            try:
                meta = reader.read_meta(step, "value")
                is_comparable = meta.get("score", score) == score  # older files do not name it
                return step, meta["value"] if is_comparable else -math.inf
            except DamagedCheckpointError as error:
                report_damage(error)
                set_aside(reader.folder, {step: "damaged"})
                self._best.reload()
        return None, 0.0

    def _save(self, manager: ocp.CheckpointManager, items: dict[str, Any], more: dict) -> None:
        step = int(items["model"]["step"])
        # A step that is saved already was saved by the same run, at the same point.
        if step in manager.all_steps():
            return
        meta = {
            "format": FORMAT_VERSION,
            "step": step,
            "config": config_to_json(self._config),
            "checksums": {name: compute_checksum(tree) for name, tree in items.items()},
            **more,
        }
        args = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        args = ocp.args.Composite(**args, meta=ocp.args.JsonSave(meta))
        try:
            manager.save(step, args=args, force=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{manager.directory}/{step}: the checkpoint cannot be written: "
                f"{describe_error(error)}; the checkpoints before it are intact: make room and run "
                "the same command again"
            ) from error

    def restore(self, abstract: TrainState) -> Progress | None:
        """Restores the newest intact checkpoint into the shardings of `abstract`.

        Newer damaged ones are reported on stderr and renamed once an intact one has been found.

        Args:
          abstract: the state as ShapeDtypeStructs with shardings, on any mesh.

        Returns:
          The progress; None if there is no checkpoint.

        Raises:
          UserError: none is intact, or the newest intact one has another format or config.
        """
        return self._restore(abstract, lambda step, meta: True)

    def roll_back(self, abstract: TrainState, rollbacks: tuple[int, ...]) -> Progress | None:
        """Restores the newest intact checkpoint that was saved while no update was being skipped.

        Newer ones are renamed, since the run will reach their steps again.

        Args:
          abstract: as for `restore`.
          rollbacks: steps of earlier roll-backs; that of the last is passed over, since the run
            diverged again after it.

        Returns:
          The progress; None if there is no such checkpoint.

        Raises:
          UserError: none is intact.
        """
        return self._restore(
            abstract, lambda step, meta: not meta["streak"] and step not in rollbacks[-1:]
        )

    def _restore(
        self, abstract: TrainState, is_good_fn: Callable[[int, dict[str, Any]], bool]
    ) -> Progress | None:
        self._latest.wait_until_finished()
        reader = Reader(to_path(self._latest.directory))
        model, trainer = split(abstract)
        passed: dict[int, str] = {}
        damage = []
        for step in reader.find_steps():
            try:
                meta = reader.read_meta(step, "position", "streak", "rollbacks")
                if not is_good_fn(step, meta):
                    passed[step] = "diverged"
                    continue
                place = reader.folder / str(step)
                change = check_change(place, meta["config"], self._config, self._allowed)
                items = reader.read_items(step, meta, model=model, trainer=trainer)
            except DamagedCheckpointError as error:
                report_damage(error)
                passed[step] = "damaged"
                damage.append(error)
                continue
            if change and is_writer():
                print(f"config changed at step {step}: {change}", flush=True)
            if passed:
                set_aside(reader.folder, passed)
                self._latest.reload()
            state = TrainState(**items["model"], **items["trainer"])
            return Progress(state, meta["position"], tuple(meta["rollbacks"]))
        if damage:
            raise make_damage_error(damage)
        return None

    def close(self) -> None:
        """Waits for saves under way."""
        self._latest.close()
        self._best.close()


def list_steps(workdir: Path) -> list[int]:
    """Steps of the finished checkpoints in WORKDIR/checkpoints, ascending; [] if there is none."""
    return find_steps(workdir / "checkpoints")


def is_finished(workdir: Path) -> bool:
    """Whether training has ended: no further checkpoint will come."""
    return (workdir / _FINISHED).exists()


def mark_finished(workdir: Path, step: int | None) -> None:
    """Records that training has ended at `step`; None deletes the record."""
    path = workdir / _FINISHED
    if step is None:
        path.unlink(missing_ok=True)
        return
    with write_beside(path) as beside:
        beside.write_text(json.dumps({"step": step}) + "\n")


def _open(folder: Path, keep: int) -> ocp.CheckpointManager:
    # On CPU a saved array may alias a donated buffer, which the next step overwrites.
    background = jax.default_backend() != "cpu"
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=background, create=True
    )
    return ocp.CheckpointManager(make_absolute(folder), options=options)


def split(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """The items `model` and `trainer` of a state, as plain trees."""
    trainer = state.to_tree()
    return {key: trainer.pop(key) for key in MODEL_KEYS}, trainer
