"""Weights in and out: bit by bit, nothing missing, nothing left over, nothing overwritten."""

import copy
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from page_commands import read_commands, replace_config
from safetensors.numpy import load_file, save_file
from tiny import make_tiny_config

from retroguide_jax import __main__ as cli
from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.checkpoints.saving import Checkpoints, Progress
from retroguide_jax.config import config_from_json
from retroguide_jax.evaluation import results
from retroguide_jax.exchange import card, importing, safetensors_export
from retroguide_jax.fingerprints import hash_weights
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import make_mesh
from retroguide_jax.provenance import format_time
from retroguide_jax.state import abstract_state, create_state
from retroguide_jax.torch_layout import variables

# Statistics of batches, and a scalar.
FIELDS = {"embedder.saig.stem_norm": "batch", "embedder.learned_temperature": True}
CONFIG = f"""
from tiny import make_tiny_config
def get_config(): return make_tiny_config(**{FIELDS})
"""
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NETWORKS = ("embedder", "generator", "discriminator")


@pytest.fixture(scope="module")
def state():
    """A trained state, whose averages differ from its parameters."""
    config = make_tiny_config(**FIELDS)
    state = create_state(config, make_networks(config), make_mesh({}, jax.devices()[:1]))
    draw = np.random.default_rng(0)

    def shift(leaf):
        noisy = np.asarray(leaf) + draw.normal(size=leaf.shape).astype(leaf.dtype)
        return jax.device_put(noisy, leaf.sharding)

    moved = {key: jax.tree.map(shift, getattr(state, key)) for key in ("params", "stats", "ema")}
    return state.replace(**moved, step=state.step + 7)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder in which the page's commands run."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("place")
        patch.chdir(place)
        yield place


@pytest.fixture(scope="module")
def trained(state, place):
    """The work directory of that state, under the name that the page uses."""
    workdir = place / "runs" / "city"
    checkpoints = Checkpoints(workdir, make_tiny_config(**FIELDS))
    checkpoints.save(Progress(state))
    checkpoints.close()
    return workdir


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained)


@pytest.fixture(scope="module")
def exported(trained, place):
    """The folder that the page's export writes."""
    assert cli.main(read_commands()[0]) == 0
    return place / "city_weights"


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny_networks.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def imported(exported, config_file, place):
    """The work directory that the page's import makes of the exported folder."""
    assert cli.main(replace_config(read_commands()[1], config_file)) == 0
    return place / "runs" / "city_again"


@pytest.fixture
def bring(config_file, tmp_path):
    """Returns bring(files, *flags) -> the exit status of `weights import` into tmp_path/new."""

    def bring(files, *flags):
        place = (f"--config={config_file}", f"--output={tmp_path / 'new'}")
        return run("import", "--from=torch", *map(str, files), *place, *flags)

    return bring


def run(*arguments):
    return cli.main(["weights", *arguments])


def list_files(folder):
    return [folder / f"{network}.safetensors" for network in NETWORKS]


def map_files(files, config=None, **options):
    return importing.map_weights(config or make_tiny_config(**FIELDS), "torch", files, **options)


def restore(workdir, config):
    checkpoints = Checkpoints(workdir, config)
    networks, mesh = make_networks(config), make_mesh({}, jax.devices()[:1])
    progress = checkpoints.restore(abstract_state(config, networks, mesh))
    checkpoints.close()
    return progress


def check_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(tree), jax.device_get(other))


def test_from_jax_to_pytorch_and_back_no_bit_changes(state, imported):
    progress = restore(imported, make_tiny_config(**FIELDS))
    assert progress.position == 0 and int(progress.state.step) == 0
    found, wanted = progress.state, state
    check_equal(variables.get_networks(found), variables.get_networks(wanted))
    # Training starts from the averages, which are the exported weights.
    check_equal(found.params["embedder"], wanted.ema["embedder"]["params"])
    check_equal(found.stats["embedder"], wanted.ema["embedder"]["stats"])
    check_equal(found.params["generator"], wanted.ema["generator"])


def test_from_pytorch_to_jax_and_back_no_bit_changes(exported, imported, tmp_path):
    again = tmp_path / "again"
    assert run("export", f"--workdir={imported}", f"--output={again}") == 0
    for path in list_files(exported):
        wanted, found = load_file(path), load_file(again / path.name)
        assert wanted.keys() == found.keys()
        for name, array in found.items():
            np.testing.assert_array_equal(array, wanted[name])
            assert array.shape == wanted[name].shape
    card = (again / "README.md").read_text()
    assert "were imported (layout torch)" in card and "not trained since" in card
    assert card.count(", sha256 ") == 3 and str(exported) not in card


def test_pytorchs_own_file_is_read_too(exported, tmp_path):
    torch = pytest.importorskip("torch")
    arrays = load_file(exported / "embedder.safetensors")
    tensors = {f"module.{name}": torch.from_numpy(array) for name, array in arrays.items()}
    counter = {"module.towers.aerial.stem.norm.0.num_batches_tracked": torch.tensor(3)}
    torch.save({"model": tensors | counter, "epoch": 3}, tmp_path / "a.pth")
    found = map_files([tmp_path / "a.pth"], only=["embedder"])
    found.check()
    kernel = found.match.arrays["embedder/towers_ground/block_0/qkv/kernel"]
    np.testing.assert_array_equal(kernel, arrays["towers.ground.block.0.qkv.weight"].T)


def test_names_may_begin_with_the_networks(exported, tmp_path):
    files = list_files(exported)
    arrays = {f"{p.stem}.{name}": a for p in files for name, a in load_file(p).items()}
    save_file(arrays, tmp_path / "a.safetensors")
    found, wanted = map_files([tmp_path / "a.safetensors"]), map_files(files)
    found.check()
    check_equal(found.match.arrays, wanted.match.arrays)


def test_what_only_leaves_out_is_initialised_from_the_seed(exported, bring, tmp_path, capsys):
    report = tmp_path / "report.json"
    flags = ("--config.mode=contrastive", "--only=embedder/towers_*", f"--report={report}")
    assert bring([exported / "embedder.safetensors"], *flags, "--allow_leftover=*") == 0
    assert "arrays are new" in capsys.readouterr().out
    config = make_tiny_config(**FIELDS, mode="contrastive")
    fresh = create_state(config, make_networks(config), make_mesh({}, jax.devices()[:1]))
    found = restore(tmp_path / "new", config).state
    embedders = found.params["embedder"], fresh.params["embedder"]
    check_equal(*(embedder["heads_aerial"] for embedder in embedders))
    check_equal(found.opt, fresh.opt)
    written = json.loads(report.read_text())
    assert written == json.loads((tmp_path / "new" / importing.RECORD).read_text())
    assert all(n.startswith(("embedder/heads", "embedder/log")) for n in written["initialised"])
    rows = {row["name"]: row for row in written["arrays"]}
    assert rows["embedder/towers_aerial/stem/Conv_0/kernel"] == {
        "source": "towers.aerial.stem.conv.0.weight",
        "source_shape": [8, 3, 3, 3],
        "name": "embedder/towers_aerial/stem/Conv_0/kernel",
        "shape": [3, 3, 3, 8],
        "transform": "OIHW to HWIO",
        "remark": "",
    }
    stored = config_from_json((tmp_path / "new" / "config.json").read_text())
    assert stored.to_dict() == config.to_dict()


def test_what_is_wrong_is_reported_and_nothing_is_written(exported, bring, tmp_path, capsys):
    arrays = load_file(exported / "embedder.safetensors")
    arrays["towers.aerial.norm.weights"] = arrays.pop("towers.aerial.norm.weight")
    arrays["towers.ground.norm.bias"] = np.zeros(5, np.float32)
    save_file(arrays, tmp_path / "a.safetensors")
    flags = ("--only=embedder", f"--report={tmp_path / 'report.txt'}")
    assert bring([tmp_path / "a.safetensors"], *flags) == 1
    error = capsys.readouterr().err
    assert "2 arrays of this config are not in it" in error
    hint = "towers.aerial.norm.weight is missing; the nearest is towers.aerial.norm.weights"
    assert f"embedder/towers_aerial/norm/scale ({hint})" in error
    assert "embedder/towers_ground/norm/bias (towers.ground.norm.bias is [5], not [8])" in error
    assert "1 of its arrays are left over: towers.aerial.norm.weights" in error
    assert "--allow_leftover='towers.aerial.norm.*'" in error
    assert not (tmp_path / "new").exists()
    report = (tmp_path / "report.txt").read_text()
    assert "left over: towers.aerial.norm.weights\n" in report
    line = "towers.aerial.stem.conv.0.weight [8, 3, 3, 3] -> "
    assert f"{line}embedder/towers_aerial/stem/Conv_0/kernel [3, 3, 3, 8] (OIHW to HWIO)" in report


def test_what_may_be_left_over_is_named(exported):
    files = list_files(exported)
    found = map_files(files, only=["embedder"], allow_leftover=["structure.*", "rgb.bias"]).match
    dropped = set(found.leftover) - set(found.refused)
    assert {name.split(".")[0] for name in dropped} == {"structure", "rgb"}
    assert "rgb.weight" in found.refused
    assert not map_files(files, only=["embedder"], allow_leftover=["*"]).match.refused
    assert not map_files(files[:2], only=["embedder", "generator"]).match.leftover


def test_a_pattern_that_names_nothing_is_an_error(exported, bring, capsys):
    assert bring(list_files(exported), "--only=embeder") == 1
    assert "--only=embeder: the config has no arrays of that name; the nearest is embedder" in (
        capsys.readouterr().err
    )


def test_one_array_in_two_files_is_an_error(exported, bring, capsys):
    assert bring([exported / "embedder.safetensors"] * 2) == 1
    assert "is in another of the files too" in capsys.readouterr().err


def test_a_run_is_never_written_over(exported, bring, tmp_path, capsys):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.json").write_text("precious")
    assert bring(list_files(exported)) == 1
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["config.json"]


def test_an_export_is_never_written_over(trained, exported, capsys):
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    assert run("export", f"--workdir={trained}", f"--output={exported}") == 1
    assert "is not empty" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in exported.iterdir()}


def test_an_unknown_layout_is_an_error(bring, tmp_path, capsys):
    assert bring([tmp_path / "a.npz"], "--from=timm") == 1
    assert "choose one of torch, timm-convnext, saig" in capsys.readouterr().err


def test_other_actions_read_no_config(capsys):
    assert run("list", "--config.seed=3") == 1
    assert "`weights list` reads no config" in capsys.readouterr().err


def test_the_card_says_what_is_recorded(model, trained, exported, tmp_path):
    text = (exported / card.NAME).read_text()
    for path in list_files(exported):
        assert f"`{path.name}`" in text
    assert "step 7 of" in text and "random weights of seed 0" in text
    assert "procedural_city" in text and "No licence has been stated" in text
    assert "Not measured" in text
    # A row about other weights does not apply to these.
    row = {
        "split": "test",
        "dataset": "procedural_city/city_64",
        "time": format_time(),
        "protocol_hash": "0123456789abcdef",
        "metrics": {"psnr": {"value": 12.5, "low": 12.0, "high": 13.0, "n": 9}},
        "absent": [],
    }
    results.append_row(trained, row | {"weights": "of other ones"})
    results.append_row(trained, row | {"weights": hash_weights(model.variables)[:16]})
    card.write_card(model, trained, tmp_path, {})
    text = (tmp_path / card.NAME).read_text()
    assert text.count("12.5000") == 1 and "Not measured" not in text


def test_the_card_says_whose_embedder_was_kept(model, tmp_path):
    frozen = copy.copy(model)
    fields = {"mode": "frozen", "frozen_embedder": "/home/somebody/runs/retrieval"}
    frozen.config = make_tiny_config(**FIELDS, **fields)
    card.write_card(frozen, tmp_path, tmp_path, {})
    text = (tmp_path / card.NAME).read_text()
    assert "embedder of another work directory, retrieval," in text and "somebody" not in text


def test_the_networks_in_pytorch_take_what_is_exported(exported, monkeypatch):
    pytest.importorskip("torch")
    from safetensors.torch import load_file as load_tensors

    monkeypatch.syspath_prepend(BENCHMARKS)
    from torch_reference.networks import build_networks

    networks = build_networks(make_tiny_config(**FIELDS))
    for path in list_files(exported):
        getattr(networks, path.stem).load_state_dict(load_tensors(path))


def test_the_discriminator_is_exported_where_its_step_is_kept(model, trained, tmp_path, capsys):
    # As with a best checkpoint after which training continued.
    older = copy.copy(model)
    older.step -= 1
    written = safetensors_export.export(older, trained, tmp_path)
    assert list(written) == ["embedder.safetensors", "generator.safetensors"]
    flags = ("--checkpoint=best", f"--output={tmp_path / 'best'}")
    assert run("export", f"--workdir={trained}", *flags) == 1
    assert "best: holds no checkpoint yet" in capsys.readouterr().err
