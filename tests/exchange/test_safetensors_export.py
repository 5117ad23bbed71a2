"""Half precision: the weights that are scored are the weights that are written."""

import jax
import numpy as np
import pytest
from random_model import make_model, save_run
from safetensors.numpy import load_file
from tiny import make_tiny_config

from retroguide_jax import __main__ as cli
from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import results
from retroguide_jax.exchange.safetensors_export import round_to_half
from retroguide_jax.fingerprints import hash_weights
from retroguide_jax.provenance import format_time

NAMES = ["embedder.safetensors", "generator.safetensors"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    save_run(place / "run", make_tiny_config())
    return place


def export(place, workdir, output, *flags):
    folders = (f"--workdir={place / workdir}", f"--output={place / output}")
    return cli.main(["weights", "export", *folders, *flags])


def append_score(place, folder, model, value):
    row = {"split": "test", "dataset": "city", "time": format_time(), "protocol_hash": "0123"}
    score = {"value": value, "low": value, "high": value, "n": 9}
    row |= {"metrics": {"psnr": score}, "absent": [], "command": "retroguide evaluate"}
    results.append_row(place / folder, row | {"weights": hash_weights(model.variables)[:16]})


def test_scores_on_the_card_are_those_of_the_rounded_weights(place, capsys):
    run = load_model(place / "run")
    append_score(place, "run", run, 11.5)
    assert export(place, "run", "half", "--dtype=float16", "--license=Apache-2.0") == 0
    assert sorted(path.name for path in (place / "half").glob("*.safetensors")) == NAMES
    card = (place / "half" / "README.md").read_text()
    assert "license: apache-2.0\n" in card and "These weights are under Apache-2.0." in card
    assert "float16" in card and "Not measured" in card

    half = load_model(place / "half")
    append_score(place, "half", half, 12.5)
    assert export(place, "half", "again", "--dtype=float16") == 0
    card = (place / "again" / "README.md").read_text()
    assert "12.5000" in card and "`retroguide evaluate`" in card and "11.5000" not in card
    assert "No licence has been stated" in card
    for name in NAMES:
        assert (place / "half" / name).read_bytes() == (place / "again" / name).read_bytes()
    round_to_half(run)
    assert hash_weights(run.variables) == hash_weights(half.variables)


def test_the_discriminator_is_part_of_full_precision_only(place):
    assert export(place, "run", "full") == 0
    assert "discriminator.safetensors" in {path.name for path in (place / "full").iterdir()}
    arrays = load_file(place / "full" / "generator.safetensors")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_programs_have_no_half_precision(place, capsys):
    assert export(place, "run", "programs", "--format=stablehlo", "--dtype=float16") == 1
    assert "--dtype=float16 goes with --format=safetensors" in capsys.readouterr().err


def test_a_weight_too_large_for_half_precision_is_an_error():
    model = make_model(make_tiny_config())
    model.load(jax.tree.map(lambda leaf: leaf * 1e6, model.variables), model.step)
    with pytest.raises(UserError, match="a weight is above 65,504"):
        round_to_half(model)
