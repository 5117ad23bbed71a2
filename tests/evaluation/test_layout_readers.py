"""The layout reader: trained, kept in a folder, found again."""

import concurrent.futures
import dataclasses
import errno
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from pair_files import make_data_config, write_pairs

from retroguide_jax.config import load_config
from retroguide_jax.data import catalog, pipeline
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import layout_readers
from retroguide_jax.evaluation.examples import ModelExamples
from retroguide_jax.evaluation.layout_reader_training import LayoutRecipe, degrade_colours
from retroguide_jax.evaluation.scoring import Instruments, Scorer
from retroguide_jax.evaluation.summary import summarize
from retroguide_jax.files import lock_folder
from retroguide_jax.metrics.scene_layout import score_layout

RECIPE = LayoutRecipe(num_steps=60, pixels_per_step=4 * 32 * 128, warmup_steps=5)
SKY_DEPTH = 65535
SKY, ROAD, GRASS, BUILDING = 0, 1, 5, 8


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    """(builder, data_config) of the smallest city."""
    data_config = load_config("city_smoke", []).data
    return catalog.open_dataset(data_config, tmp_path_factory.mktemp("city")), data_config


@pytest.fixture(scope="module")
def kept(city, tmp_path_factory):
    """(folder with a reader, the reader as trained, the progress of its training)."""
    folder, reported = tmp_path_factory.mktemp("readers"), []
    net = layout_readers.open_layout_reader(
        *city, folder, lambda *progress: reported.append(progress), recipe=RECIPE
    )
    return folder, net, reported


@pytest.fixture(scope="module")
def test_batch(city):
    builder, data_config = city
    batches = pipeline.iterate_batches(
        builder, data_config, "test", batch_size=16, with_scene_layout=True
    )
    batch = next(batches)
    return batch


def fail(*_):
    raise AssertionError("it was trained again")


class Painter:
    """A model that paints the image in a grey that depends on its noise, or not at strength 0."""

    source_view, target_view, has_generator, z_dim = "aerial", "ground", True, 2

    def __init__(self, strength):
        self.strength = strength

    def generate(self, source, z):
        grey = np.tanh(self.strength * z[:, :1]).reshape(-1, 1, 1, 1)
        return np.broadcast_to(grey, (len(source), 32, 128, 3))


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_job_measures_what_noise_changes(city, kept, strength):
    examples = ModelExamples(Painter(strength), *city, "test", num_noises=3, with_scene_layout=True)
    scorer = Scorer(("layout",), Instruments({}, layout_reader=kept[1]), 2)
    scores = summarize(
        scorer.score(examples),
        ("layout",),
        [],
        source_view="aerial",
        target_view="ground",
        tiles={},
        seed=0,
        max_bytes=2**20,
    )
    values = {score.text: entry["value"] for score, entry in scores.found.items()}
    spreads = values["light_spread_ratio"], values["facade_spread_ratio"]
    if strength:
        assert min(spreads) > 0.5 and values["label_consistency"] < 1
    else:
        assert spreads == (0, 0) and values["label_consistency"] == 1
    assert values["label_agreement_real"] > values["label_agreement"]


def test_training_learns_to_read_other_places(kept, test_batch):
    _, net, reported = kept
    assert [progress[:2] for progress in reported] == [(25, 60), (50, 60), (60, 60)]
    assert all(np.isfinite(list(metrics.values())).all() for _, _, metrics in reported)
    read = jax.jit(net.apply)(net.variables, test_batch["ground"])
    assert read["labels"].dtype == np.uint8 and read["depth"].dtype == np.float32
    real = score_layout(read, test_batch["labels"], test_batch["depth"])
    other = score_layout(
        read, np.roll(test_batch["labels"], 1, 0), np.roll(test_batch["depth"], 1, 0)
    )
    assert reported[-1][2]["loss"] < reported[0][2]["loss"] - 0.2
    assert np.mean(real["label_agreement"]) > np.mean(other["label_agreement"])
    # A barely trained reader knows sky and distance first.
    assert np.mean(real["skyline_error"]) < 0.9 * np.mean(other["skyline_error"])
    assert np.mean(real["depth_error"]) < 0.9 * np.mean(other["depth_error"])


def test_what_was_kept_is_found_again_bit_by_bit(city, kept, test_batch):
    folder, net, _ = kept
    again = layout_readers.open_layout_reader(*city, folder, fail, recipe=RECIPE)
    assert again.fingerprint == net.fingerprint and again.protocol == net.protocol
    one = jax.jit(net.apply)(net.variables, test_batch["ground"])
    other = jax.jit(again.apply)(again.variables, test_batch["ground"])
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]


def test_another_recipe_is_another_file(city, kept, tmp_path, monkeypatch):
    net = kept[1]
    monkeypatch.setattr(layout_readers, "train_layout_reader", lambda *_: net.variables)
    seeds = [dataclasses.replace(RECIPE, seed=seed) for seed in (0, 1)]
    for recipe in (*seeds, seeds[0]):
        layout_readers.open_layout_reader(*city, tmp_path, recipe=recipe)
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 2 and next(kept[0].iterdir()).name in names


def test_what_another_process_trains_is_waited_for(city, kept, tmp_path, monkeypatch):
    good, theirs = next(kept[0].iterdir()), kept[1]
    monkeypatch.setattr(layout_readers, "train_layout_reader", fail)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with lock_folder(tmp_path):
            waiting = pool.submit(layout_readers.open_layout_reader, *city, tmp_path, recipe=RECIPE)
            with pytest.raises(concurrent.futures.TimeoutError):
                waiting.result(timeout=0.5)
            shutil.copy(good, tmp_path)
        net = waiting.result(timeout=60)
    assert net.fingerprint == theirs.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == [good.name]


def test_where_nothing_can_be_locked_the_first_file_stays(city, kept, tmp_path, monkeypatch):
    good, theirs = next(kept[0].iterdir()), kept[1]

    def refuse(*_):
        raise OSError(errno.EBADF, "as NFS does for a folder")

    def train_slowly(*_):
        shutil.copy(good, tmp_path)
        return jax.tree.map(np.zeros_like, theirs.variables)

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(layout_readers, "train_layout_reader", train_slowly)
    net = layout_readers.open_layout_reader(*city, tmp_path, recipe=RECIPE)
    assert net.fingerprint == theirs.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == [good.name]


def test_equal_training_gives_equal_weights(city, tmp_path):
    recipe = LayoutRecipe(num_steps=3, pixels_per_step=32 * 128, warmup_steps=1)
    one, other = (
        layout_readers.open_layout_reader(*city, tmp_path / name, recipe=recipe)
        for name in ("a", "b")
    )
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("damage", ["cut", "other network", "unknown type", "empty"])
def test_a_damaged_file_is_refused(city, kept, tmp_path, damage):
    good = next(kept[0].iterdir())
    data = good.read_bytes()
    if damage == "other network":
        tensors = safetensors.numpy.load(data)
        tensors.pop(min(tensors))
        data = safetensors.numpy.save(tensors)
    if damage == "unknown type":
        header = b'{"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}'
        data = len(header).to_bytes(8, "little") + header + bytes(2)
    data = {"cut": data[: len(data) // 2], "empty": b""}.get(damage, data)
    (tmp_path / good.name).write_bytes(data)
    with pytest.raises(UserError, match=f"{good.name}.*delete it"):
        layout_readers.open_layout_reader(*city, tmp_path, fail, recipe=RECIPE)


def test_a_place_that_cannot_be_written_is_named_before_training(city, tmp_path, monkeypatch):
    monkeypatch.setattr(layout_readers, "train_layout_reader", fail)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="cannot write .*layout_reader-"):
        layout_readers.open_layout_reader(*city, tmp_path / "file", recipe=RECIPE)


def test_photographs_have_no_layout(tmp_path):
    data_config = make_data_config(write_pairs(tmp_path / "raw", 20))
    builder = catalog.open_dataset(data_config, tmp_path / "built")
    with pytest.raises(UserError, match="image_pairs.*has no labels and depth"):
        layout_readers.open_layout_reader(builder, data_config, tmp_path)


def test_aerial_targets_are_refused(city, tmp_path):
    with pytest.raises(UserError, match="target view is aerial"):
        layout_readers.open_layout_reader(*city, tmp_path, target_view="aerial")


def test_sizes_that_do_not_fold_are_refused(city, tmp_path):
    builder, data_config = city
    data_config = data_config.copy_and_resolve_references()
    data_config.ground_size = (30, 120)
    with pytest.raises(UserError, match=r"ground_size=\(30, 120\).*multiples of 8"):
        layout_readers.open_layout_reader(builder, data_config, tmp_path)


def test_augmentation_spoils_colours_and_moves_nothing():
    step = np.where(np.arange(128) < 64, -0.5, 0.5).astype(np.float32)
    images = np.broadcast_to(step[None, None, :, None], (8, 32, 128, 3))
    spoilt = np.asarray(degrade_colours(jax.random.key(0), images))
    assert spoilt.min() >= -1 and spoilt.max() <= 1
    assert np.all(np.std(spoilt.mean((1, 2)), axis=0) > 0.02)  # each image in its own way
    jump = np.abs(np.diff(spoilt.mean((1, 3)), axis=1))  # over columns
    assert np.all((62 <= jump[:, 1:-1].argmax(1) + 1) & (jump[:, 1:-1].argmax(1) + 1 <= 65))
