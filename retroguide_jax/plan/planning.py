"""What the command can be asked for: one plan with its extras, or a sweep."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.plan import sweep
from retroguide_jax.plan.report import Planner
from retroguide_jax.plan.search import search_batch
from retroguide_jax.plan.timeline import Assumptions
from retroguide_jax.plan.topology import describe_topology
from retroguide_jax.plan.variants import change, count_ratio, scale_batches

Tell = Callable[[str], None]


def plan_run(
    planner: Planner, config: ConfigDict, per_device: int | None, parts: set[str], tell: Tell
) -> dict[str, Any]:
    """The plan of one config.

    Args:
      planner: of the topology.
      config: the run's.
      per_device: pairs a device; None keeps the config's batch.
      parts: of `baseline` (compile for one chip too), `search` (the largest batch), `evaluation`.
      tell: is given a line before what takes minutes.

    Raises:
      UserError: a batch or a config that cannot be.
    """
    num = len(planner.topology.devices)
    config = _set_slices(planner, config)
    scaled = scale_batches(config, num, per_device)
    one_chip_seconds = _plan_one_chip(planner, scaled, tell) if "baseline" in parts else None
    tell(f"compiling the training step for {planner.topology.name}; large networks take minutes")
    plan = planner.plan_step(scaled, one_chip_seconds)
    if "search" in parts:
        plan |= _search(planner, scaled, tell)
    if "evaluation" in parts:
        tell("compiling the functions of evaluation")
        plan["evaluation"] = planner.plan_evaluation(scaled)
    return plan


def plan_sweep(
    planner: Planner, config: ConfigDict, variants: Sequence[sweep.Variant], tell: Tell
) -> dict[str, Any]:
    """The plans of all variants; see `sweep.run_sweep`.

    Raises:
      UserError: a variant's batch does not keep the config's ratio, or its fsdp does not divide the
        devices.
    """
    config, num = _set_slices(planner, config), len(planner.topology.devices)
    configs = {variant: variant.apply(config, num) for variant in variants}
    return sweep.run_sweep(variants, lambda variant: planner.plan_step(configs[variant]), tell)


def list_variants(
    fsdp: Sequence[int], batches: Sequence[int], remat: Sequence[str], per_device: int | None
) -> list[sweep.Variant]:
    """All combinations; without batches, `per_device` and its double.

    Raises:
      UserError: nothing to combine.
    """
    if not batches and per_device:
        batches = [per_device, 2 * per_device]
    variants = list(sweep.list_variants(fsdp, batches, remat))
    if not variants:
        raise UserError(
            "--sweep: nothing to compare; give --sweep_batches or --per_device_batch, and at least "
            "one of --sweep_fsdp and --sweep_remat each"
        )
    return variants


def read_assumptions(texts: Sequence[str]) -> Assumptions:
    """Assumptions from `name=value` each.

    Raises:
      UserError: an unknown name, or a value that is no positive number.
    """
    known = [field.name for field in dataclasses.fields(Assumptions)]
    values = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            values[name] = float(value)
        except ValueError:
            values[name] = 0.0
        if name not in known or not values[name] > 0:
            raise UserError(f"--assume={text}: give one of {', '.join(known)} a positive number")
    return Assumptions(**values)


def _set_slices(planner: Planner, config: ConfigDict) -> ConfigDict:
    return change(config, mesh__slice=planner.topology.num_slices)


def _plan_one_chip(planner: Planner, config: ConfigDict, tell: Tell) -> float | None:
    """Predicted seconds of a step on one chip with the same batch a device; None if none fits."""
    chip = planner.topology.chip
    # The compiler describes no single chip of a 3D network: the first of the smallest slice.
    one = describe_topology(f"{chip.name}:{'1x1' if chip.torus_dims == 2 else '2x2x1'}")
    one = dataclasses.replace(one, devices=one.devices[:1], shape=(1,) * chip.torus_dims)
    per_device = config.train.batch_size // len(planner.topology.devices)
    alone = scale_batches(change(config, mesh__slice=1, mesh__data=1, mesh__fsdp=1), 1, per_device)
    tell("compiling for one chip")
    plan = dataclasses.replace(planner, topology=one).plan_step(alone)
    return plan["predicted"]["step_seconds"] if plan["fits"] else None


def _search(planner: Planner, config: ConfigDict, tell: Tell) -> dict[str, Any]:
    num = len(planner.topology.devices)

    def measure(batch: int) -> tuple[bool, int | None]:
        tell(f"compiling for {batch} pairs a device")
        plan = planner.plan_step(scale_batches(config, num, batch))
        return plan["fits"], plan["hbm_bytes"].get("total", plan["hbm_needed_bytes"])

    unit, first = count_ratio(config), config.train.batch_size // num
    largest, tried = search_batch(measure, planner.topology.chip.hbm_limit, unit, first)
    return {"max_per_device_batch": largest, "batches_tried": tried}
