"""Each import command of docs/weights.md does what the page says."""

from pathlib import Path

import numpy as np
import pytest
from layout_arrays import make_array, make_state
from page_commands import read_commands, replace_config
from safetensors.numpy import save_file

from retroguide_jax import __main__ as cli
from retroguide_jax.checkpoints.saving import list_steps
from retroguide_jax.config import load_config
from retroguide_jax.exchange import importing
from retroguide_jax.torch_layout import axes, variables

TINY = """
from tiny import make_tiny_config
FIELDS = {"mode": "contrastive", "data.aerial_size": (32, 32), "data.ground_size": (32, 64)}
def get_config(): return make_tiny_config(**FIELDS, **{"embedder.saig.stem_norm": "batch"})
"""
ZEROS = {"stem.0.weight": np.zeros((4, 3, 4, 4)), "stem.0.bias": np.zeros(4)}
# Arrays that identify each kind of file, and other contents of such files.
FILES = {
    "model_checkpoint.pth": ({"model_grd.": 0}, {}),
    "imagenet.pth": (
        {"pos_embed": np.zeros((1, 4, 8))},
        {"head.bias": (5,), "pos_embed": (1, 16, 8)},
    ),
    "convnext_base.safetensors": (ZEROS, {"head.fc.weight": (5, 8), "head.fc.bias": (5,)}),
    "sample4geo.pth": ({f"model.{name}": array for name, array in ZEROS.items()}, {}),
}


def write_file(name, config, layout):
    """A file as the page names it, with arrays for the config; returns its real name."""
    example, more = FILES[name]
    source = importing.LAYOUTS[layout](example)
    arrays = {}
    for ours, shape in variables.list_shapes(config).items():
        if theirs := source.name_fn(ours):
            arrays[theirs] = make_array(theirs, axes.to_torch(ours, np.empty(shape)).shape)
            if theirs.endswith("backbone.pos_embed"):
                arrays[theirs] = arrays[theirs].reshape(1, -1, shape[-1])
    arrays |= make_state(more)
    try:
        import torch
    except ImportError:
        name = name.replace(".pth", ".safetensors")
    if name.endswith(".pth"):
        torch.save({key: torch.from_numpy(array) for key, array in arrays.items()}, name)
    else:
        save_file(arrays, name)
    return name


@pytest.mark.parametrize("command", read_commands()[2:], ids=lambda command: command[3])
def test_the_commands_of_the_page_run(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny_embedder.py").write_text(TINY)
    overrides = [text for text in command if text.startswith("--config.")]
    config = load_config("tiny_embedder.py", overrides)
    name = write_file(command[3], config, command[2].partition("=")[2])
    command = replace_config(command, "tiny_embedder.py")
    assert cli.main([*command[:3], name, *command[4:]]) == 0
    (output,) = (text.partition("=")[2] for text in command if text.startswith("--output="))
    assert list_steps(Path(output)) == [0]
