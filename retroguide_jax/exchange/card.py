"""The model card of an export: description, provenance and scores of the model."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retroguide_jax import __version__
from retroguide_jax.config import config_to_json
from retroguide_jax.evaluation import results, table
from retroguide_jax.exchange import history
from retroguide_jax.files import read_rows, write_beside
from retroguide_jax.fingerprints import hash_weights
from retroguide_jax.inference import Model
from retroguide_jax.provenance import STARTS_PATH
from retroguide_jax.torch_layout.folder import CONFIG

NAME = "README.md"

_TEXT = """\
---
library_name: retroguide_jax
{license_tags}
tags: [cross-view, image-retrieval{tags}]
---

# {title}

{method}

| | |
|---|---|
| direction | {source} to {target} |
| images | aerial {aerial}, ground {ground} (height x width), RGB in [-1, 1] |
| data set | {dataset} |
| training | {mode}, step {step} of {num_steps}, seed {seed} |
| config | `config.json`: all fields |
| written by | retroguide_jax {version}, {date} |

## Files

{files}

## Where the weights come from

{origin}

## How well it does

{scores}

## Licence

{license}

## Intended use

Research on cross-view image synthesis and retrieval: views of the kind that the data set shows, at
the sizes above.

## Limits

* A generated view is a guess. What the source does not show (facades, sky, light, cars, people) is
  made up; it is no evidence of what a place looks like.
* Nothing is known of its quality on other cities, cameras, seasons or image sizes than those
  measured above.
* It repeats what its data set over- and under-represents.
"""
_SYNTHESIS = (
    "Retrieval-guided cross-view image synthesis: an embedder trained by contrast maps both views "
    "to one sphere; a generator draws the other view from its embedding and from noise."
)
_RETRIEVAL = (
    "A cross-view embedder: both views are mapped to one sphere, such that the two views of a "
    "place lie together."
)


_NO_LICENCE = (
    "The program is under Apache-2.0. No licence has been stated for these weights. Whoever\n"
    "publishes them states one, within the terms of the data set and of any weights they were\n"
    "made from."
)


def write_card(
    model: Model, workdir: Path, output: Path, files: Mapping[str, str], licence: str | None = None
) -> None:
    """Writes README.md, config.json and the provenance into the folder of an export.

    The card states recorded facts only: its scores are the ledger's rows for exactly these weights.

    Args:
      model: the exported model.
      workdir: the work directory that it comes from.
      output: the folder.
      files: the folder's files: file name -> description.
      licence: of the weights, an SPDX identifier such as "Apache-2.0"; None: not stated.

    Raises:
      UserError: a file cannot be read or written.
    """
    config = history.clean_config(model.config)
    history.copy_history(model.config, workdir, output)
    data = config.data
    is_pair = model.has_generator
    text = _TEXT.format(
        tags=", image-synthesis" if is_pair else "",
        title=f"{data.name}: {model.source_view} to {model.target_view}"
        if is_pair
        else f"{data.name}: embedder",
        method=_SYNTHESIS if is_pair else _RETRIEVAL,
        source=model.source_view,
        target=model.target_view,
        aerial=_format_size(data.aerial_size),
        ground=_format_size(data.ground_size),
        dataset=f"{data.name}/{data.config_name}".removesuffix("/"),
        mode=config.mode,
        step=model.step,
        num_steps=config.train.num_steps,
        seed=config.seed,
        version=__version__,
        date=datetime.date.today().isoformat(),
        files="\n".join(f"* `{name}`: {what}" for name, what in files.items()),
        origin=_describe_origin(model, workdir) + _list_starts(output),
        scores=_format_scores(model, workdir),
        license_tags=f"license: {licence.lower()}"
        if licence
        else "license: other\nlicense_name: not-stated",
        license=f"These weights are under {licence}." if licence else _NO_LICENCE,
    )
    for name, content in ((NAME, text), (CONFIG, config_to_json(config))):
        with write_beside(output / name) as beside:
            beside.write_text(content)


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _describe_origin(model: Model, workdir: Path) -> str:
    record, config = history.read_record(workdir), model.config
    if record is None:
        start = f"random weights of seed {config.seed}"
        if config.mode == "frozen":
            embedder = Path(config.frozen_embedder).name
            start += f" and the embedder of another work directory, {embedder}, which it keeps"
        return f"Trained by `retroguide train` from {start}, as far as the work directory says."
    names = "\n".join(
        f"* `{Path(path).name}`, sha256 {digest}" for path, digest in record["files"].items()
    )
    later = f"then trained for {model.step} steps" if model.step else "and not trained since"
    return (
        f"{len(record['arrays'])} arrays were imported (layout {record['layout']}), "
        f"{len(record['initialised'])} initialised from seed {config.seed}, {later}. "
        f"Imported from:\n\n{names}"
    )


def _list_starts(output: Path) -> str:
    rows = [row for row in read_rows(output / STARTS_PATH) if "machine" in row]
    lines = "\n".join(map(_format_command, rows))
    return f" The commands, each start and resume of it:\n\n{lines}" if lines else ""


def _format_scores(model: Model, workdir: Path) -> str:
    weights = hash_weights(model.variables)[:16]
    rows = [row for row in results.read_rows(workdir) if row.get("weights") == weights]
    if not rows:
        return "Not measured: the work directory's ledger has no row for these weights."
    return "\n\n".join(
        f"Split `{row['split']}` of {row['dataset']}, protocol {row['protocol_hash']}, by\n\n"
        f"{_format_command(row)}\n\n"
        f"```\n{table.format_table(row)}\n```"
        for row in rows
    )


def _format_command(row: Mapping[str, Any]) -> str:
    """The command of a row, and when, at which commit and on which machine it ran."""
    command = history.leave_out_folders(row.get("command", ""))
    machine = row.get("machine", {})
    facts = [f"{name} {machine[name]}" for name in ("commit", "jax") if name in machine]
    facts += [machine[name] for name in ("device", "processor") if name in machine]
    return f"* `{command}` ({', '.join([row['time'], *facts])})"
