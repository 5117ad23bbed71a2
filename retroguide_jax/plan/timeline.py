"""Runs a compiled program on paper: instruction by instruction, in its scheduled order."""

import dataclasses
import functools

from retroguide_jax.plan import costs, frequencies
from retroguide_jax.plan.chips import Chip
from retroguide_jax.plan.collectives import Collective, find_event
from retroguide_jax.plan.hlo import Instruction, Module
from retroguide_jax.plan.network import Network


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What no data sheet tells; all can be set on the command line.

    Attributes:
      flops_share: of the published peak that matrix products and convolutions reach.
      hbm_share: of the published memory bandwidth that is reached.
      network_share: of the published link and network bandwidth that is reached.
      hop_seconds: latency between neighbouring chips ("How to Scale Your Model", part 3: about a
        microsecond).
      dcn_seconds: latency of an exchange between slices.
    """

    flops_share: float = 0.5
    hbm_share: float = 0.8
    network_share: float = 0.8
    hop_seconds: float = 1e-6
    dcn_seconds: float = 1e-4


@dataclasses.dataclass
class Exchange:
    """A collective with how often a step runs it and how it is scheduled."""

    collective: Collective
    count: float
    seconds: float
    is_async: bool


@dataclasses.dataclass
class Usage:
    """What running a computation once takes, on one device, on average.

    Attributes:
      flops: of matrix products and convolutions.
      hbm_bytes: read and written in main memory.
      compute_seconds: without any exchange.
      scheduled_seconds: with exchanges where the compiler has put them: asynchronous ones run
        beside the computation between their start and their end.
      exchanges: all of them.
      unknown: loops of unknown length, counted once.
    """

    flops: float = 0.0
    hbm_bytes: float = 0.0
    compute_seconds: float = 0.0
    scheduled_seconds: float = 0.0
    exchanges: list[Exchange] = dataclasses.field(default_factory=list)
    unknown: list[str] = dataclasses.field(default_factory=list)

    @property
    def network_seconds(self) -> float:
        """Of all exchanges one after the other."""
        return sum(exchange.count * exchange.seconds for exchange in self.exchanges)


class _Clock:
    """The time of one device, whose copies and exchanges run beside it."""

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
    """A program, the chip it runs on, and how often its parts run."""

    def __init__(
        self,
        module: Module,
        chip: Chip,
        network: Network,
        assumptions: Assumptions,
        shares: dict[str, float],
    ):
        """
        Args:
          module: the compiled program of one device.
          chip: its figures.
          network: of all devices.
          assumptions: see there.
          shares: how often conditional parts run, from `frequencies.list_frequencies`.
        """
        self._module, self._network = module, network
        self._flops_rate = chip.flops / chip.devices_per_chip * assumptions.flops_share
        self._hbm_rate = chip.hbm_bandwidth / chip.devices_per_chip * assumptions.hbm_share
        self._weigh = frequencies.weigh_branches(
            module, shares, lambda name: self.measure(name).scheduled_seconds
        )

    @functools.cache  # noqa: B019 - lives as long as the timeline, which is short
    def measure(self, computation: str | None = None) -> Usage:
        """Runs a computation once; by default the whole step."""
        computation = computation or self._module.entry
        usage, with_network, without = Usage(), _Clock(), _Clock()
        for line in self._module.computations[computation].values():
            if line.opcode in ("while", "conditional", "call"):
                self._run_called(usage, computation, line, with_network, without)
            else:
                self._run_line(usage, computation, line, with_network, without)
        usage.scheduled_seconds = with_network.finish()
        usage.compute_seconds = without.finish()
        return usage

    def _run_called(self, usage, computation, line, with_network, without) -> None:
        for name, times in self._count_calls(usage, computation, line).items():
            called = self.measure(name)
            usage.flops += times * called.flops
            usage.hbm_bytes += times * called.hbm_bytes
            usage.unknown += called.unknown
            with_network.now += times * called.scheduled_seconds
            without.now += times * called.compute_seconds
            usage.exchanges += [
                dataclasses.replace(exchange, count=times * exchange.count)
                for exchange in called.exchanges
                if times
            ]

    def _count_calls(self, usage: Usage, computation: str, line: Instruction) -> dict[str, float]:
        if line.opcode == "conditional":
            return self._weigh(line)
        if line.opcode == "call":
            return dict.fromkeys(line.called(), 1.0)
        trips = frequencies.count_trips(self._module, computation, line)
        if trips is None:
            usage.unknown.append(line.op_name or line.name)
        return {(line.attribute("body") or "").lstrip("%"): 1.0 if trips is None else float(trips)}

    def _run_line(self, usage, computation, line, with_network, without) -> None:
        lines = self._module.computations[computation]
        flops = costs.count_flops(self._module, lines, line)
        event = find_event(self._module, computation, line, len(self._network.places))
        # An exchange's own traffic is part of its time.
        is_exchange = event is not None and event.role != "progress"
        traffic = 0.0 if is_exchange else costs.count_traffic(self._module, lines, line)
        usage.flops += flops
        usage.hbm_bytes += traffic
        seconds = max(flops / self._flops_rate, traffic / self._hbm_rate)
        for clock in (with_network, without):
            if line.opcode in ("copy-start", "slice-start"):
                clock.start("memory", line.name, seconds)
            elif line.opcode in ("copy-done", "slice-done"):
                clock.wait(line.operands[0])
            else:
                clock.now += seconds
        if event is not None and event.role in ("sync", "start"):
            exchange = self._exchange(event)
            usage.exchanges.append(exchange)
            channel = "dcn" if self._network.crosses_slices(event.collective) else "links"
            with_network.start(channel, event.key, exchange.seconds)
        if event is not None and event.role in ("sync", "done"):
            with_network.wait(event.key)

    def _exchange(self, event) -> Exchange:
        seconds = self._network.estimate(event.collective)
        return Exchange(event.collective, 1.0, seconds, event.role == "start")
