"""The plan of one training step: every figure that is printed or written."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from retroguide_jax.parallel.rules import sharding_table
from retroguide_jax.plan import compiling, kept, memory, roofline
from retroguide_jax.plan.frequencies import list_frequencies
from retroguide_jax.plan.hlo import parse_module
from retroguide_jax.plan.network import Network
from retroguide_jax.plan.timeline import Assumptions, Timeline, Usage
from retroguide_jax.plan.topology import Topology, locate
from retroguide_jax.training.steps import check_batches


@dataclasses.dataclass(frozen=True)
class Planner:
    """Makes plans for one topology.

    Attributes:
      topology: the devices.
      assumptions: of the prediction.
      folder: where compiled programs are kept.
    """

    topology: Topology
    assumptions: Assumptions
    folder: Path

    def plan_step(self, config: ConfigDict, one_chip_seconds: float | None = None) -> dict:
        """Compiles the training step and reads the plan from it.

        Args:
          config: the run's, its batches scaled to the devices.
          one_chip_seconds: predicted for one chip; None takes this program's time without any
            exchange.

        Returns:
          A dict for JSON; `predicted`, `collectives`, `flops_per_device` and what goes with them
          are absent if it does not fit.

        Raises:
          UserError: batches, a mesh or rules that cannot be.
        """
        num = len(self.topology.devices)
        check_batches(config, num)
        step = compiling.describe_step(config, self.topology.devices)
        compiled = self._compile(step.fn, (step.state, step.batch))
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
            "hbm_bytes": memory.measure_memory(step, compiled),
            "hbm_needed_bytes": compiled.needed_bytes or None,
            "hbm_limit_bytes": self.topology.chip.hbm_limit,
            "compile_seconds": compiled.seconds,
            "versions": kept.list_versions(),
            "chip": dataclasses.asdict(self.topology.chip),
            "assumptions": dataclasses.asdict(self.assumptions),
            "frequencies": list_frequencies(config),
            "num_steps": config.train.num_steps,
            "sharding": _list_shardings(step),
            "config": config.to_dict(),
        }
        if not compiled.fits:
            return plan
        usage = self._measure(compiled, config, locate(step.mesh.devices))
        predicted = roofline.predict(
            usage,
            one_chip_seconds or usage.compute_seconds,
            config.train.batch_size,
            config.train.num_steps,
        )
        predicted["one_chip_from"] = "compiled" if one_chip_seconds else "same program, no exchange"
        return plan | {
            "flops_per_device": usage.flops,
            "flops_by_compiler": compiled.flops,
            "hbm_traffic_bytes": usage.hbm_bytes,
            "arithmetic_intensity": usage.flops / usage.hbm_bytes,
            "collectives": roofline.sum_collectives(usage),
            "longest_exchanges": _list_longest(usage, step),
            "loops_of_unknown_length": usage.unknown,
            "predicted": predicted,
        }

    def plan_evaluation(self, config: ConfigDict) -> dict[str, dict[str, Any]]:
        """Compiles the functions of evaluation for one device: {name: its plan}."""
        plans = {}
        device = self.topology.devices[0]
        for name, (fn, arguments) in compiling.list_evaluation(config, device).items():
            compiled = self._compile(fn, arguments)
            plan = {"fits": compiled.fits, "batch_size": config.eval.batch_size}
            if compiled.fits:
                usage = self._measure(compiled, config, locate([device]))
                plan["hbm_bytes"] = sum(compiled.bytes.values()) - 2 * compiled.bytes["aliased"]
                plan["flops"] = usage.flops
                plan["seconds"] = usage.scheduled_seconds
                plan["images_per_second"] = config.eval.batch_size / usage.scheduled_seconds
            plans[name] = plan
        return plans

    def _compile(self, fn: Any, arguments: tuple) -> compiling.Compiled:
        return kept.keep(
            self.folder,
            fn.lower(*arguments),
            topology=self.topology.name,
            slices=self.topology.num_slices,
            devices=len(self.topology.devices),
        )

    def _measure(self, compiled: compiling.Compiled, config, places: np.ndarray) -> Usage:
        assumed = self.assumptions
        network = Network(
            self.topology.chip,
            self.topology.shape,
            places,
            assumed.network_share,
            assumed.hop_seconds,
            assumed.dcn_seconds,
        )
        module = parse_module(compiled.text)
        shares = list_frequencies(config)
        return Timeline(module, self.topology.chip, network, assumed, shares).measure()


def _list_shardings(step: compiling.AbstractStep) -> list[dict[str, Any]]:
    shardings = jax.tree.map(lambda leaf: leaf.sharding, step.state)
    return [
        {"path": path, "shape": list(shape), "dtype": dtype, "spec": spec}
        for path, shape, dtype, spec in sharding_table(step.state, shardings)
    ]


def _list_longest(usage: Usage, step: compiling.AbstractStep, num: int = 20) -> list[dict]:
    """The exchanges that take the most of a step's time."""
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
    """The axes of the mesh that a group's members differ in."""
    shape = step.mesh.devices.shape
    positions = np.array(np.unravel_index(group, shape))
    differ = (positions != positions[:, :1]).any(1)
    return [axis for axis, varies in zip(step.mesh.axis_names, differ, strict=True) if varies]
