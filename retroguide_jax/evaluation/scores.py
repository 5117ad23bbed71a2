"""The scores of one row: their keys, their names as text, and how they are gathered.

Names in results.jsonl and their keys:

psnr, psnr_shuffled            Score("psnr"), Score("psnr", "shuffled")
r@1_real/J, r@1_same_view/J    Score("r@1", "real", "J"), Score("r@1_same_view", judge="J")
fd_J, top1_C_sure              Score("fd", judge="J"), Score("top1_sure", judge="C")
unverified_fid                 Score("unverified_fid")
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.metrics import statistics

VARIANTS = ("generated", "shuffled", "mean_image", "real")
UNVERIFIED = "unverified_"
# What precedes and follows the name of a judge, feature network or classifier, by metric.
_OF_FEATURES = {"fd": ("fd_", "")}
_OF_CLASSIFIER = {
    "kl": ("kl_", ""),
    **{f"top{k}_sure": (f"top{k}_", "_sure") for k in (1, 5)},
    **{f"top{k}": (f"top{k}_", "") for k in (1, 5)},
    **{f"inception_score_top{k}": ("inception_score_", f"_top{k}") for k in (1, 5)},
    "inception_score": ("inception_score_", ""),
}
_AROUND = _OF_FEATURES | _OF_CLASSIFIER
# Kinds of retrieval without variants; they are part of the metric: "r@1_same_view".
_WITHOUT_VARIANTS = ("_same_view", "_reverse")


@dataclasses.dataclass(frozen=True)
class Score:
    """The key of a score.

    Attributes:
      metric: what is measured: "psnr", "r@1", "fd", "top1_sure"; with "unverified_" before it where
        the weights are not known to be the published ones.
      variant: which images are scored, of `VARIANTS`.
      judge: the judge, feature network or classifier; "" where the metric has none.
    """

    metric: str
    variant: str = "generated"
    judge: str = ""

    @property
    def text(self) -> str:
        """The name in results.jsonl."""
        names_variant = self.judge and not self.metric.endswith(_WITHOUT_VARIANTS)
        if self.variant == "generated" and not names_variant:
            return self.label
        return self._join(f"_{self.variant}")

    @property
    def label(self) -> str:
        """The name of its row in a table, where variants are columns: "r@1/judge"."""
        return self._join("")

    def _join(self, suffix: str) -> str:
        bare = self.metric.removeprefix(UNVERIFIED)
        if self.judge and bare in _AROUND:
            return self.metric.removesuffix(bare) + self.judge.join(_AROUND[bare])
        return self.metric + suffix + (f"/{self.judge}" if self.judge else "")

    def of(self, variant: str) -> "Score":
        """The same score of another variant."""
        return dataclasses.replace(self, variant=variant)

    @classmethod
    def parse(cls, text: str) -> "Score":
        """The key of a name; the inverse of `text` for all names that `check_names` accepts."""
        stem, slash, judge = text.partition("/")
        found = [variant for variant in VARIANTS if stem.endswith(f"_{variant}")]
        variant = found[0] if found else "generated"
        plain = cls(stem.removesuffix(f"_{variant}"), variant, judge)
        # inception_score has both variants and namesakes by classifiers.
        if slash or plain.metric.removeprefix(UNVERIFIED) == "inception_score":
            return plain
        bare = text.removeprefix(UNVERIFIED)
        for metric, (before, after) in _AROUND.items():
            name = bare.removeprefix(before).removesuffix(after)
            if name and bare == before + name + after:
                return cls(text.removesuffix(bare) + metric, judge=name)
        return plain


def check_names(
    judges: Iterable[str], features: Iterable[str] = (), classifiers: Iterable[str] = ()
) -> None:
    """Checks that the names of a row's scores are unambiguous.

    Args:
      judges, features, classifiers: names of the networks that score.

    Raises:
      UserError: the name of a network's score would be read as that of another score.
    """
    owners: dict[str, str] = {}
    kinds = (
        ("judge", judges, _OF_FEATURES),
        ("features", features, _OF_FEATURES),
        ("classifier", classifiers, _OF_CLASSIFIER),
    )
    for kind, names, metrics in kinds:
        for score in (Score(metric, judge=name) for name in names for metric in metrics):
            owner, read = f"{kind} {score.judge}", Score.parse(score.text)
            other = owners.setdefault(score.text, owner)
            if read != score:
                by = f", by {read.judge}" if read.judge else ""
                other = f"{read.metric} of the {read.variant} images{by}"
            if other != owner:
                raise UserError(
                    f"{owner}: its score {score.text} cannot be distinguished from that of "
                    f"{other}; rename it (a judge is named after its folder)"
                )


def parse_scores(metrics: Mapping[str, dict[str, Any]]) -> dict[Score, dict[str, Any]]:
    """The "metrics" of a row by their keys."""
    return {Score.parse(name): entry for name, entry in metrics.items()}


class Scores:
    """Collects the scores of one row, the absent ones and the scores per image.

    Attributes:
      found: key -> {"value", "low", "high", "n"} with the ends of the 95 % interval, and for
        several noises "noise_std", the standard deviation of the score over them. JSON has no
        infinity: value, low and high of an infinite score are None and "infinite" is the number
        of images with an infinite value.
      absent: [{"name", "reason"}].
      ties: "KIND/J" -> number of queries with tied items.
      seed: of the bootstrap.
      per_image: name -> [N] or [N, K], for `results.write_per_image`.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.found: dict[Score, dict[str, Any]] = {}
        self.absent: list[dict[str, str]] = []
        self.ties: dict[str, int] = {}
        self.per_image: dict[str, np.ndarray] = {}

    def add_mean(self, score: Score, values: np.ndarray, *, keep: bool = True) -> None:
        """Adds the mean of [N] or [N, K] values; rows with a NaN are left out.

        Args:
          score: its key.
          values: one per image, or one per image and noise.
          keep: also keep them in `per_image`.
        """
        values = np.asarray(values, np.float64)
        table = values[:, None] if values.ndim == 1 else values
        if keep:
            self.per_image[score.text] = values
        known = table[~np.isnan(table).any(axis=1)]
        if not len(known):
            self.add_absent(score.text, "is defined for none of the images")
            return
        num_infinite = int(np.sum(np.isinf(known).any(axis=1)))
        if num_infinite:
            nothing = dict.fromkeys(("value", "low", "high"))
            self.found[score] = {**nothing, "n": len(known), "infinite": num_infinite}
            return
        mean = statistics.bootstrap_mean(known.mean(axis=1), seed=self.seed)
        self.add(score, mean.value, mean.low, mean.high, len(known), known.mean(axis=0))

    def add(
        self,
        score: Score,
        value: float,
        low: float,
        high: float,
        num: int,
        per_noise: Sequence[float] = (),
        reason: str = "is not finite",
    ) -> None:
        """Adds a score, or lists it as absent for `reason` where it is not finite."""
        if not np.isfinite(value):
            self.add_absent(score.text, reason)
            return
        ends = {"low": float(low), "high": float(high)} if np.isfinite([low, high]).all() else {}
        entry = {"value": float(value), "low": None, "high": None, **ends, "n": int(num)}
        if len(per_noise) > 1:
            entry["noise_std"] = float(np.std(per_noise, ddof=1))
        self.found[score] = entry

    def add_absent(self, name: str, reason: str) -> None:
        """Lists a score, or a metric, that could not be computed."""
        self.absent.append({"name": name, "reason": reason})

    @contextlib.contextmanager
    def explain(self, name: str) -> Iterator[None]:
        """Context manager: lists `name` as absent if the body raises a UserError."""
        try:
            yield
        except UserError as error:
            self.add_absent(name, str(error))
