"""Compares variants of a run on one topology, and recommends one."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from retroguide_jax.plan.variants import change, scale_batches
from retroguide_jax.text import align

# Predictions nearer to each other than this are a tie, which memory decides.
_TIE = 0.02


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of a sweep."""

    fsdp: int
    per_device_batch: int
    remat: str

    def apply(self, config: ConfigDict, num_devices: int) -> ConfigDict:
        """The config as this variant has it.

        Raises:
          UserError: a batch that does not keep the config's ratio.
        """
        config = scale_batches(config, num_devices, self.per_device_batch)
        return change(config, mesh__data=-1, mesh__fsdp=self.fsdp, train__remat=self.remat)

    def __str__(self) -> str:
        return f"fsdp={self.fsdp}, {self.per_device_batch} pairs a device, remat {self.remat}"


def list_variants(
    fsdp: Sequence[int], batches: Sequence[int], remat: Sequence[str]
) -> Iterator[Variant]:
    """All combinations."""
    return (Variant(*fields) for fields in itertools.product(fsdp, batches, remat))


def run_sweep(
    variants: Sequence[Variant],
    plan_fn: Callable[[Variant], dict[str, Any]],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Plans every variant, one after the other.

    Args:
      variants: at least one.
      plan_fn: of one variant, `report.Planner.plan_step`.
      tell: is given a line before each.

    Returns:
      The recommended variant's plan, or the first's if none fits, with `sweep` (rows of all),
      `recommended` (its number in `sweep`, or None) and `reason`.
    """
    plans = []
    for number, variant in enumerate(variants, 1):
        tell(f"{number} of {len(variants)}: {variant}")
        plans.append(plan_fn(variant))
    rows = [_make_row(variant, plan) for variant, plan in zip(variants, plans, strict=True)]
    best, reason = recommend(rows)
    return plans[best or 0] | {"sweep": rows, "recommended": best, "reason": reason}


def _make_row(variant: Variant, plan: dict[str, Any]) -> dict[str, Any]:
    row = dataclasses.asdict(variant) | {"fits": plan["fits"]}
    row["hbm_bytes"] = plan["hbm_bytes"].get("total", plan["hbm_needed_bytes"])
    if plan["fits"]:
        row |= {
            name: plan["hbm_bytes"][name] for name in ("parameters", "optimizer", "temporaries")
        }
        predicted = plan["predicted"]
        row |= {
            name: predicted[name]
            for name in ("step_seconds", "images_per_second", "scaling_efficiency")
        }
    return row


def recommend(rows: Sequence[dict[str, Any]]) -> tuple[int | None, str]:
    """The row to take and why: most images a second; of ties, the least memory.

    Returns:
      (number of the row, reason); (None, reason) if none fits.
    """
    fitting = [number for number, row in enumerate(rows) if row["fits"]]
    if not fitting:
        return None, "none fits: take a smaller batch, more remat or a larger fsdp"
    fastest = max(rows[number]["images_per_second"] for number in fitting)
    ties = [n for n in fitting if rows[n]["images_per_second"] >= (1 - _TIE) * fastest]
    best = min(ties, key=lambda number: rows[number]["hbm_bytes"])
    reason = f"most images a second of the {len(fitting)} of {len(rows)} that fit"
    if len(ties) > 1:
        reason += f", and of the {len(ties)} within {_TIE:.0%} of it the least memory"
    return best, reason


def format_sweep(result: dict[str, Any]) -> str:
    """The rows as text, the recommended one marked, and the overrides that choose it."""
    lines = [("variant", "fits", "GiB", "state GiB", "temp GiB", "ms", "images/s", "efficiency")]
    for number, row in enumerate(result["sweep"]):
        mark = "* " if number == result["recommended"] else "  "
        name = f"{mark}fsdp={row['fsdp']} batch={row['per_device_batch']} remat={row['remat']}"
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
