"""Checkpoints: on any mesh, intact or reported as damaged, and what a roll-back restores."""

import json
import os

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from joined import run_job
from tiny import make_tiny_config

from retroguide_jax.checkpoints.integrity import compute_checksum
from retroguide_jax.checkpoints.reading import Reader
from retroguide_jax.checkpoints.saving import Checkpoints, Progress, list_steps
from retroguide_jax.errors import UserError
from retroguide_jax.parallel.mesh import make_mesh
from retroguide_jax.parallel.rules import state_shardings
from retroguide_jax.state import TrainState

# When a read fails, nobody awaits the errors of tensorstore's other reads; see
# `reading.hush_orbax`.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def config():
    return make_tiny_config(**{"train.keep_checkpoints": 5})


def make_state(step, streak=0):
    rng = np.random.default_rng(step)
    weights = {"kernel": rng.normal(size=(64, 256)), "bias": rng.normal(size=16)}
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    counts = {"total": np.int32(streak), "streak": np.int32(streak)}
    return TrainState(
        ema={"embedder": {name: value - 1 for name, value in weights.items()}},
        opt={},
        params={"embedder": weights},
        skipped={"embedder": counts},
        stats={},
        step=np.int32(step),
    )


def place(state, config, num_devices=8, **sizes):
    """The state on the first devices, split as the config's rules say."""
    mesh = make_mesh({"data": -1, **sizes}, jax.devices()[:num_devices])
    return jax.device_put(state, state_shardings(state, config.sharding_rules, mesh))


def make_abstract(config, **where):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        place(make_state(0), config, **where),
    )


@pytest.fixture
def saved(tmp_path, config):
    """A work directory with checkpoints 2, 4 and 6."""
    checkpoints = Checkpoints(tmp_path, config)
    for step in (2, 4, 6):
        checkpoints.save(Progress(place(make_state(step), config), position=step + 100))
    checkpoints.close()
    return tmp_path


def test_files_hold_plain_trees_by_the_names_of_format_2(saved):
    """The format that code without our classes reads and that earlier versions wrote."""
    manager = ocp.CheckpointManager(saved / "checkpoints")
    names = ("model", "trainer")
    read = manager.restore(
        4, args=ocp.args.Composite(**dict.fromkeys(names, ocp.args.StandardRestore()))
    )
    wanted = make_state(4)
    assert set(read["model"]) == {"step", "ema"}
    assert set(read["trainer"]) == {"opt", "params", "skipped", "stats"}
    found = {**read["model"], **read["trainer"]}
    jax.tree.map(np.testing.assert_array_equal, found, wanted.to_tree())
    meta = json.loads((saved / "checkpoints" / "4" / "meta" / "metadata").read_text())
    assert meta["format"] == 2


def restore(workdir, config, **where):
    return Checkpoints(workdir, config).restore(make_abstract(config, **where))


def find_largest(folder):
    """The file that holds most of the numbers; its neighbours hold metadata."""
    files = [path for path in folder.glob("ocdbt.process_0/d/*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip_a_bit(folder):
    path = find_largest(folder / "model")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut_off(folder):
    path = find_largest(folder / "trainer")
    os.truncate(path, path.stat().st_size // 2)


def lose_the_meta(folder):
    (folder / "meta" / "metadata").unlink()


def lose_a_field(folder):
    path = folder / "meta" / "metadata"
    path.write_text(path.read_text().replace('"position"', '"posision"'))


def lose_all(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"fsdp": 8},
        {"data": 2, "fsdp": 4},
        {"num_devices": 4, "fsdp": 2},
        {"num_devices": 1},
    ],
)
def test_it_is_restored_on_any_mesh(saved, config, where):
    found = restore(saved, config, **where)
    assert found.position == 106 and found.rollbacks == ()
    jax.tree.map(np.testing.assert_array_equal, found.state, make_state(6))
    abstract = make_abstract(config, **where)
    placed = jax.tree.map(lambda leaf, like: leaf.sharding == like.sharding, found.state, abstract)
    assert all(jax.tree.leaves(placed))


@pytest.mark.parametrize("damage", [flip_a_bit, cut_off, lose_the_meta, lose_a_field, lose_all])
def test_the_one_before_a_damaged_one_is_used(saved, config, damage, capsys):
    damage(saved / "checkpoints" / "6")
    found = restore(saved, config)
    assert found.position == 104
    jax.tree.map(np.testing.assert_array_equal, found.state, make_state(4))
    error = capsys.readouterr().err
    assert "checkpoints/6 is DAMAGED" in error and "is now damaged_6" in error
    assert list_steps(saved) == [2, 4] and (saved / "checkpoints" / "damaged_6").is_dir()
    checkpoints = Checkpoints(saved, config)
    checkpoints.save(Progress(place(make_state(6), config), position=7))
    assert checkpoints.restore(make_abstract(config)).position == 7
    assert "DAMAGED" not in capsys.readouterr().err


def test_a_second_damaged_one_of_a_step_is_kept_too(saved, config):
    (saved / "checkpoints" / "damaged_6").mkdir()
    cut_off(saved / "checkpoints" / "6")
    restore(saved, config)
    assert (saved / "checkpoints" / "damaged_6_2").is_dir()


def test_where_none_is_whole_nothing_is_moved(saved, config):
    for step in (2, 4, 6):
        cut_off(saved / "checkpoints" / str(step))
    with pytest.raises(UserError, match="none of the checkpoints can be read .6: .*; 4: .*; 2: "):
        restore(saved, config)
    assert list_steps(saved) == [2, 4, 6]


def test_arrays_of_other_networks_are_not_called_lost(saved, config):
    abstract = make_abstract(config)
    del abstract.params["embedder"]["bias"]
    remedy = "arrays are not those of this version's networks: use the version that wrote it"
    with pytest.raises(UserError, match=remedy):
        Checkpoints(saved, config).restore(abstract)
    assert list_steps(saved) == [2, 4, 6]


def test_another_format_is_named(saved, config):
    path = saved / "checkpoints" / "6" / "meta" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    with pytest.raises(UserError, match="checkpoints/6: format 1; this version reads format 2"):
        restore(saved, config)


def test_a_roll_back_passes_over_bad_ones_and_the_one_tried_before(tmp_path, config):
    checkpoints, abstract = Checkpoints(tmp_path, config), make_abstract(config)
    for step, streak in ((2, 0), (4, 0), (6, 1), (8, 3)):
        state = place(make_state(step, streak), config)
        checkpoints.save(Progress(state, position=step, rollbacks=(3,)))
    good = checkpoints.roll_back(abstract, ())
    assert int(good.state.step) == 4 and good.rollbacks == (3,)
    assert list_steps(tmp_path) == [2, 4]
    assert (tmp_path / "checkpoints" / "diverged_6").is_dir()
    assert (tmp_path / "checkpoints" / "diverged_8").is_dir()
    assert int(checkpoints.roll_back(abstract, (3, 4)).state.step) == 2
    assert checkpoints.roll_back(abstract, (2,)) is None
    assert list_steps(tmp_path) == [2]


def test_the_best_is_kept_and_a_damaged_best_is_replaced(tmp_path, config, capsys):
    checkpoints = Checkpoints(tmp_path, config)
    states = {step: place(make_state(step), config) for step in (2, 4)}
    assert checkpoints.save_best(states[2], 0.5, "r")
    assert checkpoints.save_best(states[2], 0.6, "r")  # a roll-back may reach a step twice
    assert not checkpoints.save_best(states[4], 0.55, "r")
    lose_the_meta(tmp_path / "best" / "2")
    assert checkpoints.save_best(states[4], 0.1, "r")
    assert "best/2 is DAMAGED" in capsys.readouterr().err
    assert Reader(tmp_path / "best").find_steps() == [4]


def test_an_equal_score_is_newer_and_one_by_another_score_starts_again(tmp_path, config):
    checkpoints = Checkpoints(tmp_path, config)
    states = {step: place(make_state(step), config) for step in (2, 4, 6, 8)}
    assert checkpoints.save_best(states[2], 1.0, "r")
    # A tie at the best possible score: the newer one is kept.
    assert checkpoints.save_best(states[4], 1.0, "r")
    assert Reader(tmp_path / "best").find_steps() == [4]
    assert checkpoints.save_best(states[6], -3.5, "fd")
    assert not Checkpoints(tmp_path, config).save_best(states[8], -3.6, "fd")  # kept in the file
    assert Reader(tmp_path / "best").find_steps() == [6]


def test_the_checksum_notices_each_bit_and_no_sharding(config):
    state, rng = make_state(1), np.random.default_rng(0)
    wanted = compute_checksum(place(state, config))
    assert compute_checksum(place(state, config, fsdp=4)) == wanted
    kernel = state.params["embedder"]["kernel"] = state.params["embedder"]["kernel"].copy()
    bits = kernel.reshape(-1).view(np.uint32)
    for _ in range(32):
        where, bit = rng.integers(bits.size), np.uint32(1 << int(rng.integers(32)))
        bits[where] ^= bit
        assert compute_checksum(state) != wanted
        bits[where] ^= bit
    assert compute_checksum(state) == wanted


def test_damage_that_one_process_finds_is_damage_for_all(tmp_path):
    """Each process reads its own half; the file of the second is cut off."""
    body = f"""
    import jax, numpy as np
    from pathlib import Path
    from jax.sharding import NamedSharding, PartitionSpec
    from ml_collections import ConfigDict
    from retroguide_jax.parallel.mesh import make_mesh
    from retroguide_jax.parallel.processes import writer_first
    from retroguide_jax.checkpoints.saving import Checkpoints, Progress, list_steps
    from retroguide_jax.state import TrainState

    workdir = Path({str(tmp_path)!r})
    mesh = make_mesh({{"data": 1, "fsdp": 2}})
    config = ConfigDict({{"train": {{"keep_checkpoints": 5}}}})

    def place(value, *spec):
        value, sharding = np.asarray(value), NamedSharding(mesh, PartitionSpec(*spec))
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    def make_state(step):
        rows = np.random.default_rng(step).normal(size=(64, 300)).astype(np.float32)
        counts = {{"total": place(np.int32(0)), "streak": place(np.int32(0))}}
        return TrainState(place(np.float32(step)), {{}}, place(rows, "fsdp"),
                          {{"embedder": counts}}, {{}}, place(np.int32(step)))

    checkpoints = Checkpoints(workdir, config)
    for step in (2, 4):
        checkpoints.save(Progress(make_state(step), step))
    with writer_first("damage"):
        if me == 0:
            folder = workdir / "checkpoints" / "4" / "trainer" / "ocdbt.process_1"
            files = [path for path in folder.rglob("*") if path.is_file()]
            largest = max(files, key=lambda path: path.stat().st_size)
            os.truncate(largest, largest.stat().st_size // 2)
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        make_state(0))
    found = checkpoints.restore(abstract)
    checkpoints.close()
    print("restored", found.position, list_steps(workdir))
    """
    for status, out, err in run_job(2, body):
        assert status == 0, err
        assert "restored 2 [2]" in out
    assert (tmp_path / "checkpoints" / "damaged_4").is_dir()
