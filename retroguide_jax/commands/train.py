"""Train an embedder and a generator, or resume a run that was stopped.

The data set is built first if it is missing. Everything goes to the work directory: config,
checkpoints, metrics, sample grids. The same command again resumes from the last checkpoint; Ctrl-C
and SIGTERM save a checkpoint and exit.
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from retroguide_jax.errors import UserError

USES_CONFIG = True
EXAMPLE = "retroguide train --config=city --workdir=runs/city --config.train.num_steps=2000"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `retroguide train`."""
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="receives all that the run makes"
    )
    parser.add_argument(
        "--data_dir",
        metavar="DIR",
        help="where data sets lie (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--allow_change",
        metavar="FIELDS",
        default="",
        help="fields in which the config may differ from that of the run's checkpoint, such as "
        "train.num_steps,optimizer.generator.learning_rate; fields that do not change what is "
        "learned may differ anyway",
    )
    parser.add_argument(
        "--hang_after",
        type=float,
        default=1800,
        metavar="SECONDS",
        help="abort (status 142) with all stack traces after SECONDS without progress; must exceed "
        "the compile time; 0: never",
    )


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0 at the end, 130 or 143 after Ctrl-C or SIGTERM.

    Raises:
      UserError: a flag is out of range, another process trains there, or see `loop.train`.
    """
    if not args.hang_after >= 0:
        raise UserError(f"--hang_after={args.hang_after}: give seconds, or 0 to wait for ever")
    from retroguide_jax.parallel.processes import join_processes

    join_processes()
    import jax

    from retroguide_jax.files import to_path
    from retroguide_jax.parallel.watchdog import Watchdog
    from retroguide_jax.training.loop import train

    if args.config.train.compiler_level != "default":
        jax.config.update("jax_optimization_level", args.config.train.compiler_level)
    allow_change = [name for name in args.allow_change.split(",") if name]
    workdir = to_path(args.workdir)
    with _claim(workdir), Watchdog(args.hang_after) as watchdog:
        return train(args.config, workdir, args.data_dir, allow_change, beat_fn=watchdog.beat)


@contextlib.contextmanager
def _claim(workdir: Path) -> Iterator[None]:
    """Keeps other trainings on this machine out of a work directory: two would mix their files."""
    from retroguide_jax.files import is_in_bucket, lock_folder
    from retroguide_jax.parallel import service

    with contextlib.ExitStack() as stack:
        if service.process_index() == 0 and not is_in_bucket(workdir):
            is_new = not workdir.exists()
            try:
                stack.enter_context(lock_folder(workdir, wait=False))
                if is_new:  # it stays empty where the config cannot be used
                    stack.callback(_remove_empty, workdir)
            except BlockingIOError:
                raise UserError(
                    f"{workdir}: another `retroguide train` is running there; wait for its end, "
                    "stop it (it saves a checkpoint, from which this command resumes), or name "
                    "another --workdir"
                ) from None
        yield


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is not empty
        folder.rmdir()
