"""The tasks of `ablate.py` in order: one command per training and per scoring."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from retroguide_jax.configs import ablations, baselines

NEAREST = "nearest"
NAMES = (*ablations.CHANGES, *baselines.CHANGES, NEAREST)
JUDGES = ("saig", "convnext")
SCORES = "scores.json"
METRICS = (
    "retrieval,fd_judge,psnr,psnr_nosky,ssim_rgb,sharpness_ratio,broken_share,diversity,"
    "sky_spread_ratio,layout"
)
_EMBEDDER = {
    "mode": "contrastive",
    "train.num_steps": 1000,
}
# Fields set to the number of steps: only the last step is compared.
_ONCE = ("train.sample_every", "train.checkpoint_every", "eval.every")


@dataclasses.dataclass(frozen=True)
class Task:
    """A command and its folder; the task is finished once `done` exists.

    `needs`: folders of the tasks that must have finished before.
    """

    title: str
    place: Path
    done: Path
    command: tuple[str, ...]
    needs: tuple[Path, ...] = ()


def list_tasks(
    output: Path,
    judges: Path,
    names: Sequence[str],
    num_seeds: int,
    num_steps: int,
    overrides: Sequence[str],
) -> list[Task]:
    """Lists all tasks in an order in which none needs a later one; arguments as in `ablate.py`."""
    tasks = [_train(judges / judge, f"city_judge:{judge}", {}, overrides) for judge in JUDGES]
    # `nearest` is scored with the model in the work directory of the full method.
    wanted = ["full", *names] if NEAREST in names else names
    for seed in range(num_seeds):
        embedder = output / "embedder" / f"seed_{seed}"
        tasks.append(_train(embedder, "city", _EMBEDDER | {"seed": seed}, overrides))
        for name in sorted(dict.fromkeys(wanted), key=NAMES.index):
            tasks += _list_run(output, judges, name, seed, num_steps, embedder, overrides)
    return tasks


def _list_run(output, judges, name, seed, num_steps, embedder, overrides) -> Iterator[Task]:
    place = output / name / f"seed_{seed}"
    places = tuple(judges / judge for judge in JUDGES)
    asked = [f"--judge={judge}" for judge in places]
    if name == NEAREST:
        start, workdir = [str(Path(__file__).with_name("nearest.py"))], output / "full" / place.name
    else:
        kind = "ablations" if name in ablations.CHANGES else "baselines"
        fields = {
            "mode": "frozen",
            "frozen_embedder": embedder,
            "seed": seed,
            "train.batch_size": 2,  # the number of images that G and D see
            "train.num_steps": num_steps,
            **dict.fromkeys(_ONCE, num_steps),
        }
        yield _train(place, f"{kind}:{name}", fields, overrides, needs=(embedder,))
        start, workdir = ["-m", "retroguide_jax", "evaluate"], place
    files = [f"--json={place / SCORES}", f"--per_image={place / 'per_image.csv'}"]
    flags = [f"--workdir={workdir}", *asked, f"--metrics={METRICS}", *files]
    title, needs = f"score {name}, seed {seed}", (workdir, *places)
    yield Task(title, place, place / SCORES, (*start, *flags), needs)


def _train(place, config: str, fields: Mapping, overrides: Sequence[str], needs=()) -> Task:
    changes = [f"--config.{name}={value}" for name, value in fields.items()]
    command = ("-m", "retroguide_jax", "train", f"--config={config}", f"--workdir={place}")
    title = f"train {config}, {place.name}"
    return Task(title, place, place / "finished.json", (*command, *changes, *overrides), needs)
