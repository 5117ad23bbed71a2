"""Capacity plans: one plan with optional extras, or a sweep over variants."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.parallel.mesh import compiler_options
from retroguide_jax.parallel.rules import sharding_table
from retroguide_jax.plan import breakdown, compiling, search, timeline
from retroguide_jax.plan.collectives import Network
from retroguide_jax.plan.hlo import parse_module
from retroguide_jax.plan.timeline import Assumptions, Usage
from retroguide_jax.plan.topology import Topology, describe_one_chip, locate
from retroguide_jax.training.steps import check_batches

LogFn = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Planner:
    """Makes plans for one topology.

    Attributes:
      topology: the devices.
      assumptions: assumptions of the time prediction.
      folder: the disk cache of compilation results.
    """

    topology: Topology
    assumptions: Assumptions
    folder: Path

    def plan_step(self, config: ConfigDict, one_chip_seconds: float | None = None) -> dict:
        """Compiles the training step and reads the plan from it.

        Args:
          config: config of the run, with its batches scaled to the devices.
          one_chip_seconds: predicted time of a step on one chip; None takes this program's time
            without any exchange.

        Returns:
          A dict for JSON; `predicted`, `collectives`, `flops_per_device` and the other entries
          derived from the program are absent if it does not fit.

        Raises:
          UserError: impossible batches, mesh or sharding rules.
        """
        num = len(self.topology.devices)
        check_batches(config, num)
        step = compiling.describe_step(config, self.topology.devices)
        options = compiler_options(step.mesh)
        compiled = self._compile(step.fn, (step.state, step.batch), options)
        plan = {
            "prediction": True,
            "topology": self.topology.name,
            "num_slices": self.topology.num_slices,
            "num_chips": self.topology.num_chips,
            "num_devices": num,
            "mesh": dict(step.mesh.shape),
            "batch_size": config.train.batch_size,
            "adversarial_batch_size": config.train.adversarial_batch_size,
            "per_device_batch": config.train.batch_size / num,
            "remat": config.train.remat,
            "dtype": config.dtype,
            "fits": compiled.fits,
            "hbm_bytes": compiling.measure_memory(step, compiled),
            "hbm_needed_bytes": compiled.needed_bytes or None,
            "hbm_limit_bytes": self.topology.chip.hbm_limit,
            "compile_seconds": compiled.seconds,
            "versions": compiling.list_versions(),
            "chip": dataclasses.asdict(self.topology.chip),
            "assumptions": dataclasses.asdict(self.assumptions),
            "frequencies": timeline.list_frequencies(config),
            "num_steps": config.train.num_steps,
            "sharding": _list_shardings(step),
            "config": config.to_dict(),
        }
        if not compiled.fits:
            return plan
        usage = self._measure(compiled, config, step.mesh.devices)
        predicted = timeline.predict(
            usage,
            one_chip_seconds or usage.compute_seconds,
            config.train.batch_size,
            config.train.num_steps,
        )
        chip = self.topology.chip
        peak = chip.flops / chip.devices_per_chip
        predicted["mfu"] = usage.flops / (predicted["step_seconds"] * peak)
        predicted["one_chip_from"] = "compiled" if one_chip_seconds else "same program, no exchange"
        return plan | {
            "flops_per_device": usage.flops,
            "padded_flops_per_device": usage.padded_flops,
            "flops_by_compiler": compiled.flops,
            "hbm_traffic_bytes": usage.hbm_bytes,
            "arithmetic_intensity": usage.flops / usage.hbm_bytes,
            "modules": breakdown.sum_modules(usage),
            "kernels": breakdown.list_kernels(usage),
            "written_bytes": breakdown.measure_written(usage),
            "collectives": timeline.sum_collectives(usage),
            "longest_exchanges": _list_longest(usage, step),
            "loops_of_unknown_length": usage.unknown,
            "predicted": predicted,
        }

    def plan_evaluation(self, config: ConfigDict) -> dict[str, dict[str, Any]]:
        """Compiles the functions of evaluation for one device; returns {name: plan}."""
        plans = {}
        device = self.topology.devices[0]
        for name, (fn, arguments) in compiling.list_evaluation(config, device).items():
            compiled = self._compile(fn, arguments)
            plan = {"fits": compiled.fits, "batch_size": config.eval.batch_size}
            if compiled.fits:
                usage = self._measure(compiled, config, [device])
                plan["hbm_bytes"] = sum(compiled.bytes.values()) - 2 * compiled.bytes["aliased"]
                plan["flops"] = usage.flops
                plan["seconds"] = usage.scheduled_seconds
                plan["images_per_second"] = config.eval.batch_size / usage.scheduled_seconds
            plans[name] = plan
        return plans

    def _compile(self, fn: Any, arguments: tuple, options: Any = None) -> compiling.Compiled:
        return compiling.cached_compile(
            self.folder,
            fn.lower(*arguments),
            options,
            topology=self.topology.name,
            slices=self.topology.num_slices,
            devices=len(self.topology.devices),
        )

    def _measure(self, compiled: compiling.Compiled, config: ConfigDict, devices: Any) -> Usage:
        topology, assumed = self.topology, self.assumptions
        network = Network(
            topology.chip,
            topology.shape,
            locate(devices),
            assumed.network_share,
            assumed.hop_seconds,
            assumed.dcn_seconds,
        )
        frequencies = timeline.list_frequencies(config)
        module = parse_module(compiled.text)
        return timeline.Timeline(module, topology.chip, network, assumed, frequencies).measure()


def plan_run(
    planner: Planner, config: ConfigDict, per_device: int | None, parts: set[str], log_fn: LogFn
) -> dict[str, Any]:
    """Plans one config.

    Args:
      planner: planner of the topology.
      config: config of the run.
      per_device: pairs per device; None keeps the config's batch.
      parts: any of `baseline` (compile for one chip too), `search` (find the largest batch) and
        `evaluation`.
      log_fn: called with one line of progress before each operation that takes minutes.

    Raises:
      UserError: an impossible batch or config.
    """
    num = len(planner.topology.devices)
    config = search.change(config, mesh__slice=planner.topology.num_slices)
    scaled = search.scale_batches(config, num, per_device)
    one_chip_seconds = _plan_one_chip(planner, scaled, log_fn) if "baseline" in parts else None
    log_fn(f"compiling the training step for {planner.topology.name}; large networks take minutes")
    plan = planner.plan_step(scaled, one_chip_seconds)
    if "search" in parts:
        plan |= _search(planner, scaled, log_fn)
    if "evaluation" in parts:
        log_fn("compiling the functions of evaluation")
        plan["evaluation"] = planner.plan_evaluation(scaled)
    return plan


def plan_sweep(
    planner: Planner, config: ConfigDict, variants: Sequence[search.Variant], log_fn: LogFn
) -> dict[str, Any]:
    """Plans every variant, one after the other.

    Returns:
      The plan of the recommended variant, or of the first one if none fits, with `sweep` (one row
      per variant), `recommended` (index in `sweep`, or None) and `reason`.

    Raises:
      UserError: a variant's batch does not keep the config's ratio, or its fsdp does not divide the
        devices.
    """
    config = search.change(config, mesh__slice=planner.topology.num_slices)
    configs = [variant.apply(config, len(planner.topology.devices)) for variant in variants]
    plans = []
    for number, (variant, changed) in enumerate(zip(variants, configs, strict=True), 1):
        log_fn(f"{number} of {len(variants)}: {variant}")
        plans.append(planner.plan_step(changed))
    rows = [search.make_row(*each) for each in zip(variants, plans, strict=True)]
    best, reason = search.recommend(rows)
    return plans[best or 0] | {"sweep": rows, "recommended": best, "reason": reason}


def read_assumptions(texts: Sequence[str]) -> Assumptions:
    """Parses assumptions of the form `name=value`.

    Raises:
      UserError: an unknown name, or a value that is not a positive number.
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


def _plan_one_chip(planner: Planner, config: ConfigDict, log_fn: LogFn) -> float | None:
    """Predicted seconds of a step on one chip with the same per-device batch; None if too large."""
    per_device = config.train.batch_size // len(planner.topology.devices)
    alone = search.change(config, mesh__slice=1, mesh__data=1, mesh__fsdp=1)
    log_fn("compiling for one chip")
    one = dataclasses.replace(planner, topology=describe_one_chip(planner.topology.chip))
    plan = one.plan_step(search.scale_batches(alone, 1, per_device))
    return plan["predicted"]["step_seconds"] if plan["fits"] else None


def _search(planner: Planner, config: ConfigDict, log_fn: LogFn) -> dict[str, Any]:
    num = len(planner.topology.devices)

    def measure(batch: int) -> tuple[bool, int | None]:
        log_fn(f"compiling for {batch} pairs per device")
        plan = planner.plan_step(search.scale_batches(config, num, batch))
        return plan["fits"], plan["hbm_bytes"].get("total", plan["hbm_needed_bytes"])

    unit, first = search.count_ratio(config), config.train.batch_size // num
    largest, tried = search.search_batch(measure, planner.topology.chip.hbm_limit, unit, first)
    return {"max_per_device_batch": largest, "batches_tried": tried}


def _list_shardings(step: compiling.AbstractStep) -> list[dict[str, Any]]:
    shardings = jax.tree.map(lambda leaf: leaf.sharding, step.state)
    return [
        {"path": path, "shape": list(shape), "dtype": dtype, "spec": spec}
        for path, shape, dtype, spec in sharding_table(step.state, shardings)
    ]


def _list_longest(usage: Usage, step: compiling.AbstractStep, num: int = 20) -> list[dict]:
    """The exchanges that take the most time of a step, the longest first."""
    ordered = sorted(usage.exchanges, key=lambda each: -each.count * each.seconds)
    return [
        {
            "kind": exchange.collective.kind,
            "axes": _name_axes(exchange.collective.groups[0], step),
            "count": exchange.count,
            "bytes": exchange.collective.num_bytes,
            "seconds": float(exchange.seconds),
            "async": exchange.is_async,
            "op_name": exchange.collective.op_name,
        }
        for exchange in ordered[:num]
    ]


def _name_axes(group: np.ndarray, step: compiling.AbstractStep) -> list[str]:
    """The mesh axes along which the members of a group differ."""
    shape = step.mesh.devices.shape
    positions = np.array(np.unravel_index(group, shape))
    differ = (positions != positions[:, :1]).any(1)
    return [axis for axis, varies in zip(step.mesh.axis_names, differ, strict=True) if varies]
