"""Scores of the validation split while training, as `config.eval` configures them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import layout_readers
from retroguide_jax.evaluation.examples import ModelExamples
from retroguide_jax.evaluation.job import Job, Settings
from retroguide_jax.evaluation.judges import EMBEDDER, name_judges, open_judges
from retroguide_jax.evaluation.registry import choose_metrics, find_metric, measure_merit
from retroguide_jax.evaluation.scores import Score
from retroguide_jax.inference import Model


class Validation:
    """Scores the weights of a model on the validation split.

    Args:
      config: the run's config.
      workdir: the run's work directory; its own embedder cannot be a judge.
      builder: the built data set.
      model: receives the weights before each scoring.

    Attributes:
      num: number of examples.
      best: the score by which `best/` is chosen.

    Raises:
      UserError: a metric or a judge cannot be used, or `best_metric` is not measured.
    """

    def __init__(self, config: ConfigDict, workdir: Path, builder, model: Model):
        names = ",".join(config.eval.metrics)
        if not names:
            raise UserError("config.eval.metrics is empty: name at least one metric")
        metrics = choose_metrics(names, flag="config.eval.metrics")
        # A flag gives several judges as one string: --config.eval.judges=runs/a,runs/b.
        places = [place for text in config.eval.judges for place in text.split(",") if place]
        sizes = {view: config.data[f"{view}_size"] for view in ("aerial", "ground")}
        named = name_judges(workdir, places, flag="config.eval.judges")
        self.best = choose_best(config.eval.best_metric, metrics, [*named], model.has_generator)
        layout_reader = layout_readers.open_if_needed(metrics, model, builder, config.data)
        self._examples = ModelExamples(
            model,
            builder,
            config.data,
            config.data.val_split,
            num_noises=config.eval.num_noises,
            seed=config.seed,
            with_scene_layout=layout_reader is not None,
        )
        self._job = Job(
            Settings(metrics, rows_per_device=config.eval.batch_size, seed=config.seed),
            {EMBEDDER: model, **open_judges(named, sizes)},
            layout_reader,
        )
        self.num = self._examples.num
        self._described = self._job.describe({})
        if self._job.absent:
            reasons = (f"{name}: {reason}" for name, reason in self._job.absent.items())
            raise UserError(f"config.eval.metrics: {'; '.join(reasons)}")

    def score(
        self, progress_fn: Callable[[int, int], None]
    ) -> tuple[dict[str, float], float | None]:
        """Scores the weights in use.

        Returns:
          ({name: value}, the merit by `best`: higher is better; None where it is not finite).

        Raises:
          UserError: see `Job.score`; or `best` is not among the scores.
        """
        row, _ = self._job.score(self._examples, self._described, progress_fn)
        values = {name: entry["value"] for name, entry in row["metrics"].items()}
        if self.best.text not in values:
            reasons = {entry["name"]: entry["reason"] for entry in row["absent"]}
            reason = reasons.get(self.best.text) or f"measured are {', '.join(sorted(values))}"
            raise UserError(f"config.eval.best_metric={self.best.text!r} is not measured: {reason}")
        best = values[self.best.text]
        merit = None if best is None else measure_merit(self.best, best)
        return {name: value for name, value in values.items() if value is not None}, merit


def choose_best(
    text: str, metrics: Sequence[str], judges: Sequence[str], has_generator: bool
) -> Score:
    """The score by which `best/` is chosen.

    Args:
      text: its name in results.jsonl, or "auto": R@1 by the first judge; without judges, the
        Frechet distance by the model's own embedder, whose R@1 exceeds its ceiling; without a
        generator, the embedder's R@1 of the real images.
      metrics: names of the registry that are measured.
      judges: names of the independent judges.
      has_generator: whether the model draws images.

    Raises:
      UserError: that score is not measured.
    """
    best = Score.parse(text)
    if text == "auto" and not has_generator:
        best = Score("r@1", "real", EMBEDDER)
    elif text == "auto":
        best = Score("r@1", judge=judges[0]) if judges else Score("fd", judge=EMBEDDER)
    field = f"config.eval.best_metric={text!r}"
    if not has_generator and (best.metric == "fd" or best.variant != "real"):
        raise UserError(
            f"{field}: mode contrastive draws nothing, and scores real images only; "
            "give r@1_real/embedder"
        )
    if find_metric(best) not in metrics:
        raise UserError(
            f"{field} needs {find_metric(best) or 'another name: that is no score'}; "
            f"config.eval.metrics has {', '.join(metrics)}"
        )
    if best.judge not in ("", EMBEDDER, *judges):
        known = ", ".join((EMBEDDER, *judges))
        raise UserError(f"{field}: no judge of that name; config.eval.judges gives {known}")
    return best
