"""`retroguide weights import`: makes a work directory from weights that were trained elsewhere."""

import argparse
import json

from retroguide_jax.errors import UserError

ENTRY_HELP = "which set of arrays, of a file with several (state_dict_ema), or how names begin"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the action."""
    parser.add_argument(
        "--from",
        dest="weight_layout",
        required=True,
        metavar="LAYOUT",
        help="whose names the arrays have: torch (our networks in PyTorch, and what `export` "
        "writes), timm-convnext (also Sample4Geo), saig",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help=".safetensors, .npz, .pth, .pt, .ckpt or .bin; several are read as one",
    )
    parser.add_argument("--entry", default="", metavar="NAME", help=ENTRY_HELP)
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME[:ARG]|FILE.py[:ARG]",
        help="config of the networks, and of a run that continues from the weights",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the work directory to make")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="take only these of the config's arrays, such as embedder or embedder/towers_*, and "
        "initialise the others; may be repeated",
    )
    parser.add_argument(
        "--allow_leftover",
        action="append",
        default=[],
        metavar="PATTERN",
        help="arrays of the file that may be dropped, such as 'head.fc.*'; may be repeated",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write what became of every array, as JSON (FILE.json) or as text",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the work directory; returns 0.

    Raises:
      UserError: the config, the weight layout or a file cannot be used, arrays are missing, of the
        wrong shape or unused, or the folder already holds a run.
    """
    from retroguide_jax.config import load_config
    from retroguide_jax.exchange import importing
    from retroguide_jax.exchange.report import format_report, summarise
    from retroguide_jax.files import to_path, write_beside

    if args.weight_layout not in importing.LAYOUTS:
        raise UserError(
            f"--from={args.weight_layout}: choose one of {', '.join(importing.LAYOUTS)}"
        )
    config = load_config(args.config, args.overrides)
    mapping = importing.map_weights(
        config, args.weight_layout, args.files, args.only, args.allow_leftover, args.entry
    )
    if args.report:
        as_json = args.report.endswith(".json")
        text = json.dumps(mapping.to_json(), indent=2) + "\n" if as_json else format_report(mapping)
        with write_beside(args.report) as beside:
            beside.write_text(text)
    mapping.check()
    importing.write_workdir(config, mapping, to_path(args.output))
    print(summarise(mapping))
    print(f"{args.output}: step 0, ready to train, evaluate or generate")
    return 0
