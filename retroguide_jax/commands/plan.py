"""Estimate memory, step time and scaling on TPUs and GPUs, without one.

Compiles the real training step and the functions of evaluation for the named topology, with its
compiler but without its chips, and reads from the compiled programs: memory by kind against the
limit, FLOPs, exchanges between chips, and a prediction of the step's time from the chips' published
rates. It is a prediction, not a measurement; a large network takes minutes to compile. The config's
batch is that of all devices together; --per_device_batch replaces it.

Exit status: 0 it fits, 1 it does not.
"""

import argparse
import contextlib
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from retroguide_jax.errors import UserError
from retroguide_jax.progress import print_line, show_stage

USES_CONFIG = True
EXAMPLE = "retroguide plan --config=cvusa --topology=v5e:16x16 --per_device_batch=8"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `retroguide plan`."""
    add = parser.add_argument
    switch: dict[str, Any] = {"action": "store_true"}
    add(
        "--topology",
        metavar="CHIP:SHAPE",
        help="chips of one slice: v4, v5e, v5p, v6e or tpu7x, as in v5e:16x16 or v5p:8x8x8; or the "
        "GPUs of one host, h100:8 or h200:8",
    )
    add("--slices", type=int, default=1, metavar="N", help="number of slices")
    add("--per_device_batch", type=int, metavar="N", help="pairs per device")
    add("--baseline", help="also compile for one chip, for the efficiency from 1 to N", **switch)
    add("--search", help="find the largest per-device batch that fits", **switch)
    add("--sweep", help="compare meshes, batches and remat policies, and recommend one", **switch)
    add("--sweep_fsdp", default="1,8", metavar="N,...", help="sizes of config.mesh.fsdp")
    add(
        "--sweep_batches",
        metavar="N,...",
        help="pairs per device (default: --per_device_batch and its double)",
    )
    add("--sweep_remat", default="none,blocks", metavar="NAME,...", help="config.train.remat")
    add("--skip_evaluation", help="plan training only", **switch)
    add("--detail", help="all modules, the longest kernels, more exchanges", **switch)
    add("--shardings", help="print the placement of every leaf of the state", **switch)
    add(
        "--fast",
        help="compile at O1, whatever config.train.compiler_level is: half the time",
        **switch,
    )
    add(
        "--assume",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="flops_share, hbm_share, network_share, hop_seconds or dcn_seconds; may be repeated",
    )
    add(
        "--batches",
        metavar="N,...",
        help="compile nothing; print rates, weights and lengths of a run at these global batches",
    )
    add("--num_pairs", type=int, default=0, metavar="N", help="training pairs, for --batches")
    add("--cache", metavar="DIR", help="disk cache of compiled programs (default: in ~/.cache)")
    add("--json", metavar="FILE", help="file for all numbers of the plan")


def run(args: argparse.Namespace) -> int:
    """Prints the plan; returns 0 if it fits, else 1.

    Raises:
      UserError: libtpu is missing, the topology is unknown, the batch does not divide over the
        devices, or the config is impossible.
    """
    if args.batches:
        from retroguide_jax.scaling import make_table
        from retroguide_jax.text import align

        batches = _read_list("batches", args.batches, int)
        print(align(make_table(args.config, batches, args.num_pairs)))
        return 0
    if not args.topology:
        raise UserError("--topology is missing: name a chip and a shape, such as v5e:16x16")
    from retroguide_jax.plan.topology import describe_topology, prepare_environment

    prepare_environment(args.topology)  # before anything imports jax
    import jax

    from retroguide_jax.plan import compiling, planning, search, table
    from retroguide_jax.scaling import scale_config

    args.config = scale_config(args.config)
    level = "O1" if args.fast else args.config.train.compiler_level
    if level != "default":
        jax.config.update("jax_optimization_level", level)
    planner = planning.Planner(
        topology=describe_topology(args.topology, args.slices),
        assumptions=planning.read_assumptions(args.assume),
        folder=Path(args.cache) if args.cache else compiling.default_folder(),
    )
    if args.sweep:
        variants = search.list_variants(
            _read_list("sweep_fsdp", args.sweep_fsdp, int),
            _read_list("sweep_batches", args.sweep_batches or "", int),
            _read_list("sweep_remat", args.sweep_remat, str),
            args.per_device_batch,
        )
        with show_stage("compiling"), _ending_at_once():
            plan = planning.plan_sweep(planner, args.config, variants, print_line)
        print(search.format_sweep(plan), end="\n\n")
    else:
        parts = {name for name in ("baseline", "search") if getattr(args, name)}
        parts |= set() if args.skip_evaluation else {"evaluation"}
        with show_stage("compiling"), _ending_at_once():
            plan = planning.plan_run(planner, args.config, args.per_device_batch, parts, print_line)
    print(table.format_plan(plan, args.shardings, args.detail))
    if level != args.config.train.compiler_level:
        print(
            "\ncompiled at O1 (--fast); training compiles at config.train.compiler_level="
            f"{args.config.train.compiler_level} and may need less memory"
        )
    if args.json:
        _write_json(args.json, plan)
    return 0 if plan["fits"] else 1


@contextlib.contextmanager
def _ending_at_once() -> Iterator[None]:
    """Lets Ctrl-C end the process: Python would see it only when the compiler returns."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _read_list(flag: str, text: str, kind: type) -> Sequence:
    try:
        return [kind(word) for word in text.split(",") if word]
    except ValueError as error:
        raise UserError(f"--{flag}={text}: give numbers with commas between") from error


def _write_json(path: str, plan: dict) -> None:
    from retroguide_jax.files import write_beside

    with write_beside(path) as beside:
        beside.write_text(json.dumps(plan, indent=2) + "\n")
