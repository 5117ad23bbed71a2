"""Training and evaluation iterators: determinism, resume, sharding, padding."""

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from ml_collections import ConfigDict
from pair_files import make_data_config, write_pairs

from retroguide_jax.data import catalog, images, pipeline, reading
from retroguide_jax.errors import UserError


def take(iterator, num_batches):
    return list(islice(iterator, num_batches))


def assert_same_batches(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def get_numbers(batch):
    """The numbers written into the flat images, read back from both views."""
    numbers, grounds = (batch[view][:, 0, 0, 0] for view in ("aerial", "ground"))
    np.testing.assert_array_equal(numbers, grounds)  # both views of a pair stay together
    return numbers.tolist()


def make(pairs, seed=3, batch_size=4, **kwargs):
    return pipeline.make_train_iterator(*pairs, batch_size=batch_size, seed=seed, **kwargs)


def test_batches_have_the_promised_form(pairs):
    batch = next(make(pairs))
    place = batch.pop("place")
    assert place.shape == (4,) and place.dtype == np.int32 and len(set(place.tolist())) == 4
    assert set(batch) == {"aerial", "ground"}
    assert batch["aerial"].shape == (4, 16, 16, 3) and batch["ground"].shape == (4, 8, 32, 3)
    assert all(value.dtype == np.uint8 for value in batch.values())


def test_the_seed_decides_everything(pairs):
    assert_same_batches(take(make(pairs), 12), take(make(pairs), 12))
    one, other = (get_numbers(next(make(pairs, seed))) for seed in (3, 4))
    assert one != other


def test_thread_count_changes_nothing(pairs):
    builder, data_config = pairs
    single = ConfigDict(data_config.to_dict() | {"num_threads": 0})
    assert_same_batches(take(make(pairs), 8), take(make((builder, single)), 8))


def test_there_is_a_thread_per_core_unless_configured_otherwise(monkeypatch):
    for cores, asked, expected in ((4, -1, 4), (64, -1, 16), (4, 8, 8), (4, 0, 0)):
        monkeypatch.setattr(pipeline.os, "cpu_count", lambda cores=cores: cores)
        assert pipeline.count_threads(ConfigDict({"num_threads": asked})) == expected


def test_every_epoch_is_shuffled_again_without_repeats(pairs):
    num_examples = reading.num_examples(pairs[0], "train")
    batch_size = 5
    steps = num_examples // batch_size
    epochs = []
    iterator = make(pairs, batch_size=batch_size)
    for _ in range(3):
        numbers = [n for batch in take(iterator, steps) for n in get_numbers(batch)]
        assert len(set(numbers)) == len(numbers) == steps * batch_size
        epochs.append(numbers)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_larger_than_the_split_repeats_it(pairs):
    num_examples = reading.num_examples(pairs[0], "train")
    numbers = get_numbers(next(make(pairs, batch_size=4 * num_examples)))
    assert set(Counter(numbers).values()) == {4}


def test_a_small_data_set_is_decoded_once_and_gives_the_same_batches(pairs, monkeypatch):
    builder, data_config = pairs
    single = ConfigDict(data_config.to_dict() | {"num_threads": 0})  # decoded in one order
    decoded = []
    decode = reading.PairDecoder.__call__

    def count(self, example):
        decoded.append(example["id"])
        return decode(self, example)

    monkeypatch.setattr(reading.PairDecoder, "__call__", count)
    streams = []
    for most_bytes in (2**30, 0):
        monkeypatch.setattr(reading, "_MOST_BYTES_KEPT", most_bytes)
        decoded.clear()
        streams.append(take(make((builder, single)), 21))  # three passes
        assert (len(set(decoded)) == len(decoded)) == (most_bytes > 0)
    assert_same_batches(*streams)


@pytest.mark.parametrize("steps_before", [0, 1, 9])
def test_resume_is_exact(pairs, steps_before):
    iterator = make(pairs)
    take(iterator, steps_before)
    state = json.loads(json.dumps(iterator.get_state()))
    wanted = take(iterator, 5)
    resumed = make(pairs)
    resumed.set_state(state)
    assert_same_batches(take(resumed, 5), wanted)


def test_a_position_serves_any_number_of_processes(pairs):
    whole = make(pairs, batch_size=8)
    take(whole, 7)
    position = pipeline.get_position(whole)
    assert position == 7
    wanted = [get_numbers(batch) for batch in take(whole, 5)]
    found = []
    for index in range(2):
        part = make(pairs, batch_size=8, process_index=index, process_count=2)
        pipeline.set_position(part, position)
        found.append([get_numbers(batch) for batch in take(part, 5)])
        assert pipeline.get_position(part) == 12
    assert [left + right for left, right in zip(*found, strict=True)] == wanted


def test_the_ids_of_a_batch_are_known_without_it(pairs, monkeypatch):
    batches = [get_numbers(batch) for batch in take(make(pairs, batch_size=8), 9)]
    monkeypatch.setattr(pipeline.images, "decode_image", None)  # nothing is decoded
    for number in (0, 4, 8):
        ids = pipeline.read_batch_ids(*pairs, batch_size=8, seed=3, number=number)
        assert [int(name) for name in ids] == batches[number]


@pytest.mark.parametrize("num_threads", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named_by_its_id(pairs, num_threads, monkeypatch):
    def decode(source, size, name):
        raise images.UnreadableImageError(name, "truncated image")

    builder, data_config = pairs
    threaded = ConfigDict(data_config.to_dict() | {"num_threads": num_threads})
    monkeypatch.setattr(pipeline.images, "decode_image", decode)
    with pytest.raises(UserError, match=r"aerial of \d+: truncated image; "):
        next(make((builder, threaded)))


def test_a_record_that_cannot_be_read_is_named(tmp_path):
    data_config = make_data_config(write_pairs(tmp_path / "raw", 30))
    builder = catalog.open_dataset(data_config, tmp_path / "built")
    next(make((builder, data_config)))
    (path,) = (tmp_path / "built").rglob("*-train.array_record-*")
    content = bytearray(path.read_bytes())
    content[next(at for at in range(len(content) // 2, 0, -1) if content[at])] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"split 'train', example \d+: cannot be read: .*hash"
    ) as caught:
        take(make((builder, data_config)), 8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_share_the_batches_of_one(pairs, process_count):
    wholes = take(make(pairs, batch_size=8), 9)
    parts = [
        take(make(pairs, batch_size=8, process_index=i, process_count=process_count), 9)
        for i in range(process_count)
    ]
    joined = [
        {name: np.concatenate([batch[name] for batch in group]) for name in group[0]}
        for group in zip(*parts, strict=True)
    ]
    assert_same_batches(joined, wholes)
    for group in zip(*parts, strict=True):
        numbers = [n for batch in group for n in get_numbers(batch)]
        assert len(set(numbers)) == 8  # disjoint
        assert len({len(get_numbers(batch)) for batch in group}) == 1  # equal


def test_unequal_shares_are_refused(pairs):
    with pytest.raises(UserError, match="batch size 4 .* 3 processes"):
        make(pairs, process_count=3)
    with pytest.raises(UserError, match="examples for 64 processes"):
        make(pairs, batch_size=64, process_count=64)
    with pytest.raises(UserError, match="batch size 5"):
        pipeline.iterate_batches(*pairs, "test", batch_size=5, process_count=2)


def test_only_square_aerials_with_panoramas_are_rotated(pairs):
    builder, data_config = pairs
    assert pipeline._can_rotate(data_config)
    for change in ({"panorama": False}, {"aerial_size": (16, 12)}, {"ground_size": (8, 30)}):
        changed = ConfigDict(data_config.to_dict() | change)
        assert not pipeline._can_rotate(changed)
        next(make((builder, changed)))


@pytest.mark.parametrize("batch_size, process_count", [(4, 1), (7, 1), (8, 2), (64, 4)])
def test_evaluation_sees_each_example_once(pairs, batch_size, process_count):
    builder, data_config = pairs
    split = "train"
    num_examples = reading.num_examples(builder, split)
    parts = [
        list(
            pipeline.iterate_batches(
                builder, data_config, split,
                batch_size=batch_size, process_index=i, process_count=process_count,
            )
        )
        for i in range(process_count)
    ]  # fmt: skip
    assert {len(part) for part in parts} == {-(-num_examples // batch_size)}
    seen = []
    for group in zip(*parts, strict=True):
        for batch in group:
            assert batch["mask"].shape == batch["index"].shape == (batch_size // process_count,)
            assert batch["mask"].dtype == bool and batch["index"].dtype == np.int64
            assert batch["aerial"].shape == (batch_size // process_count, 16, 16, 3)
            seen += batch["index"][batch["mask"]].tolist()
    assert seen == list(range(num_examples))


def test_evaluation_keeps_the_stored_order_and_does_not_augment(pairs):
    builder, data_config = pairs
    shown = reading.read_pairs(builder, data_config, "test", 100)
    batch = next(pipeline.iterate_batches(builder, data_config, "test", batch_size=len(shown)))
    assert get_numbers(batch) == [int(pair["id"]) for pair in shown]
    assert [int(pair["aerial"][0, 0, 0]) for pair in shown] == get_numbers(batch)


def test_images_are_resized_to_the_configured_sizes(pairs):
    builder, data_config = pairs
    larger = ConfigDict(data_config.to_dict() | {"aerial_size": (24, 24), "ground_size": (12, 48)})
    batch = next(pipeline.iterate_batches(builder, larger, "test", batch_size=2))
    assert batch["aerial"].shape == (2, 24, 24, 3) and batch["ground"].shape == (2, 12, 48, 3)


def test_unknown_and_empty_splits_are_named(pairs):
    builder, data_config = pairs
    for split in ("tset", "train[:0]", "train[", "train[9:3]"):
        with pytest.raises(UserError, match="it has test .* train"):
            reading.num_examples(builder, split)
    assert reading.num_examples(builder, "train[:5]") == 5
