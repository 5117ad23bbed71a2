"""Breakdown of a step's predicted time and memory traffic by module, kernel and padding."""

import re
from collections.abc import Iterator
from typing import Any

from retroguide_jax.plan.hlo import Array, Instruction
from retroguide_jax.plan.timeline import Usage, Work

_NETWORK = re.compile(r".*\b(?:(Embedder|Generator|Discriminator)(?:\.(\w+))?)\)*(?=/|$)(.*)")
# Path components that Flax or JAX adds, and the towers, whose parts are the same for both views.
_SKIPPED = re.compile(
    r"^(Embedder|Generator|Discriminator|towers_|cond$|branch_|checkpoint|remat|.*(\(|->))"
)
_NUMBER = re.compile(r"_\d+$")


def sum_modules(usage: Usage) -> list[dict[str, Any]]:
    """Rows {module, seconds, flops, bytes} of a step on one device, the longest first.

    Exchanges count only for the time that the device waits for them; a fusion counts for the module
    that its result comes from.
    """
    rows: dict[str, dict[str, Any]] = {}
    for work in usage.work:
        name = name_module(work.line.op_name)
        row = rows.setdefault(name, {"module": name, "seconds": 0.0, "flops": 0.0, "bytes": 0.0})
        row["seconds"] += work.count * work.seconds
        row["flops"] += work.count * work.flops.useful
        row["bytes"] += work.count * work.hbm_bytes
    waits = {
        "waiting for exchanges": usage.scheduled_seconds - usage.compute_seconds,
        "waiting for copies": usage.compute_seconds - sum(row["seconds"] for row in rows.values()),
    }
    listed = [*rows.values()]
    listed += [
        {"module": name, "seconds": seconds, "flops": 0.0, "bytes": 0.0}
        for name, seconds in waits.items()
    ]
    return sorted(listed, key=lambda row: -row["seconds"])


def name_module(op_name: str) -> str:
    """`discriminator blocks_0` for `jit(train_step)/.../jvp(Discriminator.extract)/blocks_0/...`.

    The trained embedder is distinguished from the guide by its method `both`.
    """
    match = _NETWORK.match(op_name)
    if match is None:
        for scope in ("optimizer", "average"):
            if f"/{scope}/" in op_name:
                return scope
        return "losses" if "jvp(" in op_name else "updates"
    network = match[1].lower()
    if network == "embedder":
        network = "embedder" if "Embedder.both" in op_name else "guide"
    parts = [part for part in match[3].split("/")[1:-1] if not _SKIPPED.match(part)]
    if not parts:
        return network
    if network in ("embedder", "guide"):
        return (
            f"{network} {_NUMBER.sub('', parts[0]).removesuffix('_aerial').removesuffix('_ground')}"
        )
    if any(part.startswith("RegionMask") for part in parts):
        return f"{network} region masks"
    return f"{network} {parts[0]}"


def list_kernels(usage: Usage, num: int = 20) -> list[dict[str, Any]]:
    """The longest-running instructions of a step: {kernel, seconds, flops, shape, module}."""
    longest = sorted(usage.work, key=lambda work: -work.count * work.seconds)[:num]
    return [
        {
            "kernel": name_kernel(work.line),
            "seconds": work.count * work.seconds,
            "flops": work.count * work.flops.useful,
            "shape": re.sub(r"\{[^}]*\}", "", work.line.shape)[:60],
            "module": name_module(work.line.op_name),
        }
        for work in longest
    ]


def name_kernel(line: Instruction) -> str:
    """The library function of a custom call, the kind of a fusion, else the opcode."""
    if line.opcode == "custom-call":
        return (line.attribute("custom_call_target") or "custom-call").strip('"')
    if line.opcode == "fusion":
        match = re.search(r'"fusion_backend_config":\{"kind":"(\w+)"', line.attributes)
        return match[1] if match else f"fusion {line.attribute('kind') or ''}".strip()
    return line.opcode


def measure_written(usage: Usage) -> dict[str, float]:
    """Bytes that a step writes to main memory: {total, padding (of tiles), float32}."""
    sums = {"total": 0.0, "padding": 0.0, "float32": 0.0}
    for work, array in _list_written(usage):
        sums["total"] += work.count * array.num_bytes
        sums["padding"] += work.count * array.padding
        sums["float32"] += work.count * array.num_bytes * (array.dtype == "f32")
    return sums


def _list_written(usage: Usage) -> Iterator[tuple[Work, Array]]:
    for work in usage.work:
        # In-place updates write only part of their result; results of copies name several buffers.
        if work.seconds and "dynamic-update-slice" not in work.line.name:
            yield from ((work, array) for array in work.line.arrays if array.in_hbm)
