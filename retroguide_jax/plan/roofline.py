"""From a program's usage to the time of a step and the efficiency of many chips."""

from typing import Any

from retroguide_jax.plan.timeline import Usage

_DAY = 86400.0


def predict(
    usage: Usage, one_chip_seconds: float, batch_size: int, num_steps: int
) -> dict[str, Any]:
    """Predicts the step's time three ways, and what follows from it.

    `scheduled`, the one that all else is computed from, lets those exchanges overlap that the
    compiled schedule starts before it waits for them. `pessimistic` overlaps none, `optimistic`
    all.
    `scaling_efficiency` is the time of the same per-device batch on one chip over that on all.

    Args:
      usage: of one step on one device.
      one_chip_seconds: of a step on one chip with the same per-device batch.
      batch_size: pairs of a step over all devices.
      num_steps: of the schedule.
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

    `bytes` are of the whole array on one device, `async_bytes` those of exchanges that run beside
    computation.
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
