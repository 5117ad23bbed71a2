"""Formats a plan as text."""

from typing import Any

from retroguide_jax.text import align

GIB = 2**30
# Maximum rows of the tables of modules and of exchanges, without and with detail.
_FEW, _MANY = 12, 100


def format_plan(plan: dict[str, Any], with_shardings: bool = False, detail: bool = False) -> str:
    """Formats a plan: fit, memory, exchanges, and the time prediction with its arithmetic.

    Args:
      plan: from `planning.Planner`.
      detail: show all modules, the longest kernels and more exchanges.
      with_shardings: append the placement of every leaf of the state, some hundred lines.
    """
    parts = [_head(plan), _memory(plan)]
    if plan["fits"]:
        num = _MANY if detail else _FEW
        parts += [_prediction(plan), _modules(plan, num), _exchanges(plan), _longest(plan, num)]
        parts += [_kernels(plan)] if detail else []
    if "max_per_device_batch" in plan:
        parts.append(_largest(plan))
    if plan.get("evaluation"):
        parts.append(_evaluation(plan))
    if with_shardings:
        parts.append(_shardings(plan))
    return "\n\n".join(part for part in parts if part)


def describe_fit(plan: dict[str, Any]) -> str:
    """Such as `fits: 9.10 of 15.75 GiB per device`, or the memory it needs if it does not fit."""
    limit = f"{plan['hbm_limit_bytes'] / GIB:.2f} GiB per device"
    if plan["fits"]:
        return f"fits: {plan['hbm_bytes']['total'] / GIB:.2f} of {limit}"
    needed = plan["hbm_needed_bytes"]
    asks = f"needs {needed / GIB:.2f} of" if needed else "needs more than"
    return f"does not fit: {asks} {limit}"


def _head(plan: dict[str, Any]) -> str:
    mesh = ", ".join(f"{axis}={size}" for axis, size in plan["mesh"].items())
    slices = f" x {plan['num_slices']} slices" if plan["num_slices"] > 1 else ""
    versions = ", ".join(f"{name} {version}" for name, version in plan["versions"].items())
    return "\n".join(
        [
            f"PREDICTION for {plan['topology']}{slices}: compiled, not run",
            f"{plan['num_devices']} devices ({mesh}); {plan['dtype']}, remat {plan['remat']}",
            f"{plan['per_device_batch']:g} pairs per device, {plan['batch_size']} per step, "
            f"{plan['adversarial_batch_size']} of them adversarial",
            f"compiled in {plan['compile_seconds']:.0f} s by {versions}",
            "",
            describe_fit(plan),
        ]
    )


def _memory(plan: dict[str, Any]) -> str:
    lines = [("memory of a device", "MiB", "% of limit")]
    for kind, size in plan["hbm_bytes"].items():
        share = 100 * size / plan["hbm_limit_bytes"]
        lines.append((kind.replace("_", " "), f"{size / 2**20:.1f}", f"{share:.1f}"))
    return align(lines)


def _exchanges(plan: dict[str, Any]) -> str:
    titles = ("exchanges of a step", "count", "MB", "of it async", "ms alone")
    lines: list[tuple[str, ...]] = [titles]
    for kind, sums in sorted(plan["collectives"].items()):
        cells = (sums["bytes"] / 1e6, sums["async_bytes"] / 1e6, sums["seconds"] * 1e3)
        lines.append((kind, f"{sums['count']:.1f}", *(f"{cell:.2f}" for cell in cells)))
    return align(lines) if len(lines) > 1 else "no exchanges"


def _prediction(plan: dict[str, Any]) -> str:
    rows = [*_work(plan), *_times(plan)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _work(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows on the work of one device in a step."""
    chip, written = plan["chip"], plan["written_bytes"]
    balance = chip["flops"] / chip["hbm_bandwidth"]
    parts = ", ".join(f"{name} {share:g}" for name, share in plan["frequencies"].items())
    rows = [
        (
            "FLOPs",
            f"{plan['flops_per_device']:.3e} of matrix products and convolutions; "
            f"{plan['padded_flops_per_device']:.3e} with channels padded to {chip['matrix_unit']}",
        ),
        (
            "memory traffic",
            f"{plan['hbm_traffic_bytes']:.3e} bytes; of {written['total']:.3e} written "
            f"{written['padding'] / written['total']:.0%} are padding, "
            f"{written['float32'] / written['total']:.0%} float32",
        ),
        (
            "intensity",
            f"{plan['arithmetic_intensity']:.1f} FLOPs per byte; the chip's: {balance:.0f}",
        ),
        ("runs per step", f"{parts} (a penalty: of the GAN updates)"),
    ]
    if plan["loops_of_unknown_length"]:
        rows.append(("counted once", ", ".join(plan["loops_of_unknown_length"])))
    return rows


def _times(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows on the predicted times and the terms that they are computed from."""
    chip, assumed, predicted = plan["chip"], plan["assumptions"], plan["predicted"]
    share = 1 / chip["devices_per_chip"]
    ms = {name: f"{1e3 * value:.2f}" for name, value in predicted["step_seconds_by"].items()}
    percent = {
        name: f"{100 * value:.1f} %" for name, value in predicted["scaling_efficiency_by"].items()
    }
    one_chip = f"{1e3 * predicted['one_chip_seconds']:.2f}"
    return [
        (
            "compute",
            f"{1e3 * predicted['compute_seconds']:.2f} ms, each instruction the longer of padded "
            f"FLOPs / ({assumed['flops_share']:g} x {chip['flops'] * share / 1e12:g}e12) and "
            f"bytes / ({assumed['hbm_share']:g} x {chip['hbm_bandwidth'] * share / 1e9:g}e9)",
        ),
        (
            "exchanges alone",
            f"{1e3 * predicted['network_seconds']:.2f} ms at {assumed['network_share']:g} x "
            f"{chip['link_bandwidth'] / 1e9:g} GB/s per link and direction, "
            f"{assumed['hop_seconds'] * 1e6:g} us per hop"
            + (
                f"; between slices {assumed['network_share']:g} x {chip['dcn_bandwidth'] / 1e9:g} "
                f"GB/s per chip, {assumed['dcn_seconds'] * 1e6:g} us each"
                if plan["num_slices"] > 1
                else ""
            ),
        ),
        (
            "step",
            f"{ms['scheduled']} ms as scheduled, {1e3 * predicted['exposed_seconds']:.2f} of it "
            f"waiting (no overlap {ms['pessimistic']}, all overlapped {ms['optimistic']})",
        ),
        (
            "MFU",
            f"{100 * predicted['mfu']:.1f} % = {plan['flops_per_device']:.3e} FLOPs / "
            f"({ms['scheduled']} ms x {chip['flops'] * share / 1e12:g}e12)",
        ),
        ("step on one chip", f"{one_chip} ms ({predicted['one_chip_from']})"),
        (
            f"efficiency 1 -> {plan['num_chips']}",
            f"{percent['scheduled']} = {one_chip} / {ms['scheduled']} (no overlap "
            f"{percent['pessimistic']}, all overlapped {percent['optimistic']})",
        ),
        ("images/s", f"{predicted['images_per_second']:.0f} pairs"),
        ("days", f"{predicted['days']:.2f} for {plan['num_steps']} steps"),
    ]


def _modules(plan: dict[str, Any], num: int) -> str:
    total = plan["predicted"]["step_seconds"]
    peak = plan["chip"]["flops"] / plan["chip"]["devices_per_chip"]
    lines = [("where the time goes", "ms", "% of step", "TFLOP", "GB", "MFU %")]
    rows = [row for row in plan["modules"] if row["seconds"] > 0]
    rest = {key: sum(row[key] for row in rows[num:]) for key in ("seconds", "flops", "bytes")}
    shown = rows[:num] + ([{"module": "others"} | rest] if rows[num:] else [])
    for row in shown:
        lines.append(
            (
                row["module"],
                f"{1e3 * row['seconds']:.2f}",
                f"{100 * row['seconds'] / total:.1f}",
                f"{row['flops'] / 1e12:.3f}",
                f"{row['bytes'] / 1e9:.2f}",
                f"{100 * row['flops'] / (row['seconds'] * peak):.0f}" if row["seconds"] else "",
            )
        )
    return align(lines)


def _kernels(plan: dict[str, Any]) -> str:
    lines = [("longest kernels", "ms", "TFLOP", "result", "where from")]
    for row in plan["kernels"]:
        cells = (f"{1e3 * row['seconds']:.2f}", f"{row['flops'] / 1e12:.3f}")
        lines.append((row["kernel"], *cells, row["shape"], row["module"]))
    return align(lines)


def _longest(plan: dict[str, Any], num: int) -> str:
    lines = [("longest exchanges", "axes", "count", "MB", "us", "async", "where from")]
    for each in plan["longest_exchanges"][:num]:
        lines.append(
            (
                each["kind"],
                "+".join(each["axes"]),
                f"{each['count']:.2f}",
                f"{each['bytes'] / 1e6:.2f}",
                f"{each['seconds'] * 1e6:.0f}",
                "yes" if each["async"] else "no",
                each["op_name"][-60:],
            )
        )
    return align(lines) if len(lines) > 1 else ""


def _largest(plan: dict[str, Any]) -> str:
    tried = ", ".join(
        f"{batch} {'yes' if fits else 'no'}" for batch, fits in plan["batches_tried"].items()
    )
    return f"largest per-device batch that fits: {plan['max_per_device_batch']} (tried: {tried})"


def _evaluation(plan: dict[str, Any]) -> str:
    titles = ("evaluation, one device", "rows", "MiB", "FLOPs", "ms", "images/s")
    lines: list[tuple[str, ...]] = [titles]
    for name, part in plan["evaluation"].items():
        cells = ("does not fit", "", "", "")
        if part["fits"]:
            cells = (
                f"{part['hbm_bytes'] / 2**20:.0f}",
                f"{part['flops']:.2e}",
                f"{1e3 * part['seconds']:.2f}",
                f"{part['images_per_second']:.0f}",
            )
        lines.append((name, str(part["batch_size"]), *cells))
    return align(lines)


def _shardings(plan: dict[str, Any]) -> str:
    lines = [("leaf", "shape", "type", "placement")]
    for row in plan["sharding"]:
        shape = "x".join(map(str, row["shape"])) or "scalar"
        lines.append((row["path"], shape, row["dtype"], row["spec"]))
    return align(lines)
