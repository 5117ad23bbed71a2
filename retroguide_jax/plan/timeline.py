"""The time predictor: simulates a compiled program, instruction by instruction as scheduled.

Not validated by measurements: use its times to compare programs, not as absolute values.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from retroguide_jax.plan import costs
from retroguide_jax.plan.chips import Chip
from retroguide_jax.plan.collectives import Collective, Event, Network, find_event
from retroguide_jax.plan.hlo import Instruction, Module
from retroguide_jax.schedule import Schedule

_DAY = 86400.0
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
# The conditional parts of a step, recognised by the networks whose operations they contain. The
# order matters: the GAN update contains all three networks, the embedder's update only its own.
_PARTS = (
    ("structure", re.compile(r"\bstructure_update\b")),
    ("gan", re.compile(r"\bGenerator\b")),
    ("penalty", re.compile(r"\bDiscriminator\b")),
    ("embedder", re.compile(r"\bEmbedder\b")),
)


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """Parameters that no data sheet states; all can be set on the command line.

    Attributes:
      flops_share: fraction of the published peak that matrix products and convolutions reach, with
        channels padded to whole matrix units.
      hbm_share: fraction of the published memory bandwidth that is reached.
      network_share: fraction of the published link and network bandwidth that is reached.
      hop_seconds: latency between neighbouring chips ("How to Scale Your Model", part 3: about a
        microsecond).
      dcn_seconds: latency of an exchange between slices.
    """

    flops_share: float = 0.8
    hbm_share: float = 0.8
    network_share: float = 0.8
    hop_seconds: float = 1e-6
    dcn_seconds: float = 1e-4


@dataclasses.dataclass
class Exchange:
    """A collective, its number of runs per step and how it is scheduled."""

    collective: Collective
    count: float
    seconds: float
    is_async: bool


@dataclasses.dataclass
class Work:
    """The cost of one instruction, exchanges excluded.

    Attributes:
      line: the instruction.
      count: average number of runs per step.
      seconds: device time; 0 for copies that overlap with other work.
      flops: operations of matrix products and convolutions.
      hbm_bytes: bytes read and written in main memory.
    """

    line: Instruction
    count: float
    seconds: float
    flops: costs.Flops
    hbm_bytes: float


@dataclasses.dataclass
class Usage:
    """The average cost of running a computation once on one device.

    Attributes:
      work: cost of each instruction.
      compute_seconds: time without any exchange.
      scheduled_seconds: time with exchanges where the compiler has scheduled them: asynchronous
        ones overlap with the computation between their start and their end.
      exchanges: all exchanges.
      unknown: loops of unknown length, counted once.
    """

    work: list[Work] = dataclasses.field(default_factory=list)
    compute_seconds: float = 0.0
    scheduled_seconds: float = 0.0
    exchanges: list[Exchange] = dataclasses.field(default_factory=list)
    unknown: list[str] = dataclasses.field(default_factory=list)

    @property
    def flops(self) -> float:
        """Operations of matrix products and convolutions, without padding."""
        return sum(work.count * work.flops.useful for work in self.work)

    @property
    def padded_flops(self) -> float:
        """`flops` with channels padded to whole matrix units."""
        return sum(work.count * work.flops.padded for work in self.work)

    @property
    def hbm_bytes(self) -> float:
        """Bytes read and written in main memory."""
        return sum(work.count * work.hbm_bytes for work in self.work)

    @property
    def network_seconds(self) -> float:
        """Time of all exchanges if they run one after the other."""
        return sum(exchange.count * exchange.seconds for exchange in self.exchanges)


class _Clock:
    """Simulated time of one device, with copies and exchanges on channels that run in parallel."""

    def __init__(self):
        self.now = 0.0
        self._free: dict[str, float] = {}
        self._pending: dict[str, float] = {}

    def start(self, channel: str, key: str, seconds: float) -> None:
        finish = max(self.now, self._free.get(channel, 0.0)) + seconds
        self._free[channel] = self._pending[key] = finish

    def wait(self, key: str) -> None:
        self.now = max(self.now, self._pending.pop(key, 0.0))

    def finish(self) -> float:
        return max([self.now, *self._pending.values()])


class Timeline:
    """Simulates a program on a chip, with the frequencies of its conditional parts."""

    def __init__(
        self,
        module: Module,
        chip: Chip,
        network: Network,
        assumptions: Assumptions,
        frequencies: dict[str, float],
    ):
        """
        Args:
          module: the compiled program of one device.
          chip: specifications of the chip.
          network: network of all devices.
          assumptions: see `Assumptions`.
          frequencies: how often conditional parts run, from `list_frequencies`.
        """
        self._module, self._network, self._frequencies = module, network, frequencies
        self._unit = chip.matrix_unit
        self._flops_rate = chip.flops / chip.devices_per_chip * assumptions.flops_share
        self._hbm_rate = chip.hbm_bandwidth / chip.devices_per_chip * assumptions.hbm_share

    @functools.cache  # noqa: B019 - lives as long as the timeline, which is short
    def measure(self, computation: str | None = None) -> Usage:
        """Simulates one run of a computation; by default of the entire step."""
        computation = computation or self._module.entry
        usage, with_network, without = Usage(), _Clock(), _Clock()
        for line in self._module.computations[computation].values():
            if line.opcode in ("while", "conditional", "call"):
                self._run_called(usage, line, with_network, without)
            else:
                self._run_line(usage, computation, line, with_network, without)
        usage.scheduled_seconds = with_network.finish()
        usage.compute_seconds = without.finish()
        return usage

    def _run_called(self, usage, line, with_network, without) -> None:
        for name, times in self._count_calls(usage, line).items():
            called = self.measure(name)
            usage.unknown += called.unknown
            with_network.now += times * called.scheduled_seconds
            without.now += times * called.compute_seconds
            if times:
                usage.work += _repeat(called.work, times)
                usage.exchanges += _repeat(called.exchanges, times)

    def _count_calls(self, usage: Usage, line: Instruction) -> dict[str, float]:
        """Number of times that an instruction runs each computation that it calls."""
        if line.opcode == "conditional":
            return self._weigh_branches(line)
        if line.opcode == "call":
            return dict.fromkeys(line.called(), 1.0)
        trips = _TRIPS.search(line.attributes)
        if trips is None:
            usage.unknown.append(line.op_name or line.name)
        return {(line.attribute("body") or "").lstrip("%"): float(trips[1]) if trips else 1.0}

    def _weigh_branches(self, line: Instruction) -> dict[str, float]:
        """Share of runs per branch: the longest is the conditional part, the others are without it.

        A longest branch that is no known part of a step counts as always taken.
        """
        branches = [name for name in line.called() if name in self._module.computations]
        longest = max(branches, key=lambda name: self.measure(name).scheduled_seconds)
        share = self._frequencies.get(name_part(self._module, longest) or "", 1.0)
        others = [name for name in branches if name != longest]
        return {longest: share} | {name: (1.0 - share) / len(others) for name in others}

    def _run_line(self, usage, computation, line, with_network, without) -> None:
        lines = self._module.computations[computation]
        flops = costs.count_flops(self._module, lines, line, self._unit)
        event = find_event(self._module, computation, line, len(self._network.places))
        # The estimated time of an exchange includes its memory traffic.
        is_exchange = event is not None and event.role != "progress"
        traffic = 0.0 if is_exchange else costs.count_traffic(self._module, lines, line)
        seconds = max(flops.padded / self._flops_rate, traffic / self._hbm_rate)
        is_copy = line.opcode in ("copy-start", "slice-start")
        if seconds:
            usage.work.append(Work(line, 1.0, 0.0 if is_copy else seconds, flops, traffic))
        for clock in (with_network, without):
            if is_copy:
                clock.start("memory", line.name, seconds)
            elif line.opcode in ("copy-done", "slice-done"):
                clock.wait(line.operands[0])
            else:
                clock.now += seconds
        if event is not None:
            self._run_exchange(usage, event, with_network)

    def _run_exchange(self, usage: Usage, event: Event, clock: _Clock) -> None:
        collective = event.collective
        if event.role in ("sync", "start") and collective is not None:
            seconds = self._network.estimate(collective)
            usage.exchanges.append(Exchange(collective, 1.0, seconds, event.role == "start"))
            channel = "dcn" if self._network.crosses_slices(collective) else "links"
            clock.start(channel, event.key, seconds)
        if event.role in ("sync", "done"):
            clock.wait(event.key)


def _repeat(each: list, times: float) -> list:
    return [dataclasses.replace(one, count=times * one.count) for one in each]


def list_frequencies(config: ConfigDict) -> dict[str, float]:
    """Share of the steps at which each conditional part runs, on average over the schedule.

    `penalty` is relative to `gan`, because it is a part of the GAN update.
    """
    schedule, num_steps = Schedule(config), config.train.num_steps
    gan = schedule.count("discriminator")
    return {
        "embedder": schedule.count("embedder") / num_steps,
        "structure": schedule.count("structure") / num_steps,
        "gan": gan / num_steps,
        "penalty": schedule.count("penalty") / max(1, gan),
    }


def name_part(module: Module, branch: str) -> str | None:
    """The conditional part of the step that a branch contains; None for any other branch."""
    names = set(_op_names(module, branch, set()))
    return next((part for part, known in _PARTS if any(map(known.search, names))), None)


def _op_names(module: Module, computation: str, seen: set[str]) -> Iterator[str]:
    if computation in seen:
        return
    seen.add(computation)
    for line in module.computations[computation].values():
        yield line.op_name
        for called in line.called():
            yield from _op_names(module, called, seen)


def predict(
    usage: Usage, one_chip_seconds: float, batch_size: int, num_steps: int
) -> dict[str, Any]:
    """Predicts the step's time in three ways, and the rates derived from it.

    `scheduled`, from which all rates are computed, overlaps the exchanges that the compiled
    schedule starts before it waits for them. `pessimistic` overlaps none, `optimistic` all.
    `scaling_efficiency` is the time of the same per-device batch on one chip over that on all.

    Args:
      usage: usage of one step on one device.
      one_chip_seconds: time of a step on one chip with the same per-device batch.
      batch_size: pairs per step over all devices.
      num_steps: steps of the run.
    """
    estimates = {
        "scheduled": usage.scheduled_seconds,
        "pessimistic": usage.compute_seconds + usage.network_seconds,
        "optimistic": max(usage.compute_seconds, usage.network_seconds),
    }
    seconds = estimates["scheduled"]
    return {
        "step_seconds": seconds,
        "images_per_second": batch_size / seconds,
        "scaling_efficiency": one_chip_seconds / seconds,
        "days": num_steps * seconds / _DAY,
        "compute_seconds": usage.compute_seconds,
        "network_seconds": usage.network_seconds,
        "exposed_seconds": seconds - usage.compute_seconds,
        "one_chip_seconds": one_chip_seconds,
        "step_seconds_by": estimates,
        "scaling_efficiency_by": {
            name: one_chip_seconds / value for name, value in estimates.items()
        },
    }


def sum_collectives(usage: Usage) -> dict[str, dict[str, float]]:
    """{kind: {count, bytes, seconds, async_bytes}} of a step, averaged over the schedule.

    `bytes` sums `Collective.num_bytes` over all exchanges, `async_bytes` over those that overlap
    with computation.
    """
    kinds: dict[str, dict[str, float]] = {}
    for exchange in usage.exchanges:
        kind = exchange.collective.kind
        if exchange.collective.over_dcn:
            kind += " between slices"
        sums = kinds.setdefault(kind, {"count": 0, "bytes": 0, "seconds": 0, "async_bytes": 0})
        num_bytes = exchange.count * exchange.collective.num_bytes
        sums["count"] += exchange.count
        sums["bytes"] += num_bytes
        sums["seconds"] += exchange.count * exchange.seconds
        sums["async_bytes"] += num_bytes if exchange.is_async else 0
    return kinds
