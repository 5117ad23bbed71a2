"""Compares variants of a run on one topology: the largest batch that fits, the best of a sweep."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.text import align

Measure = Callable[[int], tuple[bool, int | None]]
# Compiling takes minutes, and memory is nearly affine in the batch: few attempts suffice.
_TRIES = 5
# Predictions within this fraction of the best are a tie, broken by the least memory.
_TIE = 0.02


def change(config: ConfigDict, **fields: Any) -> ConfigDict:
    """A copy with the given fields changed; two underscores stand for a dot: `train__remat`."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.update_from_flattened_dict(
            {name.replace("__", "."): value for name, value in fields.items()}
        )
    return config


def scale_batches(config: ConfigDict, num_devices: int, per_device: int | None) -> ConfigDict:
    """A copy with the contrastive and adversarial batches scaled to the devices.

    Args:
      config: config of the run.
      num_devices: number of devices of the mesh.
      per_device: pairs per device and step; None keeps the config's global batch. The adversarial
        batch keeps its ratio to the contrastive one.

    Raises:
      UserError: the config's batch does not divide over the devices, or `per_device` is not a
        multiple of the ratio.
    """
    batch = config.train.batch_size
    if per_device is None:
        if batch % num_devices:
            raise UserError(
                f"config.train.batch_size={batch} does not divide over {num_devices} devices; give "
                "--per_device_batch=N, pairs per device, to plan a larger batch"
            )
        return config
    ratio = count_ratio(config)
    if per_device < 1 or per_device % ratio:
        raise UserError(
            f"--per_device_batch={per_device}: must be a positive multiple of {ratio}, for the "
            f"config's ratio of {batch} pairs to {config.train.adversarial_batch_size} adversarial "
            "ones"
        )
    return change(
        config,
        train__batch_size=per_device * num_devices,
        train__adversarial_batch_size=per_device * num_devices // ratio,
    )


def count_ratio(config: ConfigDict) -> int:
    """Pairs of the contrastive batch per adversarial pair."""
    return config.train.batch_size // config.train.adversarial_batch_size


def search_batch(
    measure: Measure, limit: int, unit: int, first: int
) -> tuple[int, dict[int, bool]]:
    """Extrapolates from two batches to the largest that fits, and confirms it.

    Args:
      measure: batch -> (fits, bytes needed or None if unknown); called at most once per batch.
      limit: bytes that may be used.
      unit: batches are multiples of this.
      first: the batch to begin with.

    Returns:
      The largest batch found to fit, 0 if none, and {batch: fits} of all batches tried. If the
      estimate stays at the largest batch, the next multiple of `unit` is not tried.
    """
    tried: dict[int, tuple[bool, int | None]] = {}

    def try_batch(batch: int) -> None:
        if batch not in tried:
            tried[batch] = measure(batch)

    try_batch(first)
    try_batch(2 * first if tried[first][0] else max(unit, first // 2 // unit * unit))
    for _ in range(_TRIES):
        guess = _guess(tried, limit, unit)
        if guess in tried or guess < unit:
            break
        try_batch(guess)
    fitting = [batch for batch, (fits, _) in tried.items() if fits]
    return max(fitting, default=0), {batch: fits for batch, (fits, _) in sorted(tried.items())}


def _guess(tried: dict[int, tuple[bool, int | None]], limit: int, unit: int) -> int:
    """The next batch to try, between the largest that fits and the smallest that does not."""
    low = max((batch for batch, (fits, _) in tried.items() if fits), default=0)
    high = min((batch for batch, (fits, _) in tried.items() if not fits), default=0)
    known = sorted((batch, size) for batch, (_, size) in tried.items() if size is not None)
    guess = (low + high) // 2 if high else 2 * low
    if len(known) > 1:
        # Take the two points nearest to the limit, because memory is only piecewise affine.
        (a, size_a), (b, size_b) = sorted(
            sorted(known, key=lambda point: abs(point[1] - limit))[:2]
        )
        if size_b > size_a:
            guess = a + int((limit - size_a) * (b - a) / (size_b - size_a))
    guess = guess // unit * unit
    guess = max(guess, low + unit) if high > low + unit else max(guess, low)
    # A batch no larger than the guess did not fit, so the estimate is wrong: halve the gap.
    return (low + high) // 2 // unit * unit if high and guess >= high else guess


@dataclasses.dataclass(frozen=True)
class Variant:
    """One combination of settings in a sweep."""

    fsdp: int
    per_device_batch: int
    remat: str

    def apply(self, config: ConfigDict, num_devices: int) -> ConfigDict:
        """A copy of the config with this variant's settings.

        Raises:
          UserError: see `scale_batches`.
        """
        config = scale_batches(config, num_devices, self.per_device_batch)
        return change(config, mesh__data=-1, mesh__fsdp=self.fsdp, train__remat=self.remat)

    def __str__(self) -> str:
        return f"fsdp={self.fsdp} batch={self.per_device_batch} remat={self.remat}"


def list_variants(
    fsdp: Sequence[int], batches: Sequence[int], remat: Sequence[str], per_device: int | None
) -> list[Variant]:
    """All combinations; without batches, `per_device` and twice that.

    Raises:
      UserError: there is nothing to combine.
    """
    if not batches and per_device:
        batches = [per_device, 2 * per_device]
    variants = [Variant(*fields) for fields in itertools.product(fsdp, batches, remat)]
    if not variants:
        raise UserError(
            "--sweep: nothing to compare; give --sweep_batches or --per_device_batch, and at least "
            "one of --sweep_fsdp and --sweep_remat each"
        )
    return variants


def make_row(variant: Variant, plan: dict[str, Any]) -> dict[str, Any]:
    """The entries of one variant's plan that a sweep compares."""
    row = dataclasses.asdict(variant) | {"fits": plan["fits"]}
    row["hbm_bytes"] = plan["hbm_bytes"].get("total", plan["hbm_needed_bytes"])
    if plan["fits"]:
        kinds = ("parameters", "optimizer", "temporaries")
        times = ("step_seconds", "images_per_second", "scaling_efficiency")
        row |= {name: plan["hbm_bytes"][name] for name in kinds}
        row |= {name: plan["predicted"][name] for name in times}
    return row


def recommend(rows: Sequence[dict[str, Any]]) -> tuple[int | None, str]:
    """Chooses the row with the most images per second; of ties, the one with the least memory.

    Returns:
      (index of the row, reason); (None, reason) if none fits.
    """
    fitting = [number for number, row in enumerate(rows) if row["fits"]]
    if not fitting:
        return None, "none fits: take a smaller batch, more remat or a larger fsdp"
    fastest = max(rows[number]["images_per_second"] for number in fitting)
    ties = [n for n in fitting if rows[n]["images_per_second"] >= (1 - _TIE) * fastest]
    best = min(ties, key=lambda number: rows[number]["hbm_bytes"])
    reason = f"most images per second of the {len(fitting)} of {len(rows)} that fit"
    if len(ties) > 1:
        reason += f", and of the {len(ties)} within {_TIE:.0%} of it the least memory"
    return best, reason


def format_sweep(result: dict[str, Any]) -> str:
    """The rows as text with the recommended one marked, and the overrides that select it."""
    lines: list[tuple[str, ...]] = [
        ("variant", "fits", "GiB", "state GiB", "temp GiB", "ms", "images/s", "efficiency")
    ]
    for number, row in enumerate(result["sweep"]):
        mark = "* " if number == result["recommended"] else "  "
        name = mark + str(Variant(row["fsdp"], row["per_device_batch"], row["remat"]))
        size = "?" if row["hbm_bytes"] is None else f"{row['hbm_bytes'] / 2**30:.2f}"
        cells = [""] * 5
        if row["fits"]:
            cells = [
                f"{(row['parameters'] + row['optimizer']) / 2**30:.2f}",
                f"{row['temporaries'] / 2**30:.2f}",
                f"{1e3 * row['step_seconds']:.1f}",
                f"{row['images_per_second']:.0f}",
                f"{100 * row['scaling_efficiency']:.1f} %",
            ]
        lines.append((name, "yes" if row["fits"] else "no", size, *cells))
    text = align(lines)
    if result["recommended"] is None:
        return f"{text}\n\n{result['reason']}"
    return (
        f"{text}\n\nrecommended (*): {result['reason']}\n"
        f"  --config.mesh.fsdp={result['mesh']['fsdp']} --config.train.remat={result['remat']} "
        f"--config.train.batch_size={result['batch_size']} "
        f"--config.train.adversarial_batch_size={result['adversarial_batch_size']}"
    )
