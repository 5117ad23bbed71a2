"""Losses over all pairs: by hand, in blocks, and over devices."""

import functools
import re

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from retroguide_jax import bank
from retroguide_jax.parallel.mesh import batch_sharding, make_mesh, replicate
from retroguide_jax.training import pairwise

RNG = np.random.default_rng(0)
LOSSES = {
    "info_nce": lambda a, b, **blocks: pairwise.info_nce(a, b, 20.0, **blocks),
    "soft_margin_triplet": pairwise.soft_margin_triplet,
}


def unit_rows(num, dim):
    rows = RNG.normal(size=(num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


SOURCE, TARGET = unit_rows(6, 4), unit_rows(6, 4)


def test_info_nce_by_hand():
    expected = 0.0
    for a, b in ((SOURCE, TARGET), (TARGET, SOURCE)):
        for i in range(6):
            logits = [7.0 * float(a[i] @ b[j]) for j in range(6)]
            expected += (np.log(np.sum(np.exp(logits))) - logits[i]) / 12
    np.testing.assert_allclose(pairwise.info_nce(SOURCE, TARGET, 7.0), expected, rtol=1e-5)


@pytest.mark.parametrize("chunk", [0, 2])
def test_a_bank_holds_more_negatives_of_the_source(chunk):
    empty = bank.create(8, 4)
    plain = pairwise.info_nce(SOURCE, TARGET, 7.0)
    found = pairwise.info_nce(SOURCE, TARGET, 7.0, chunk, bank=empty)
    np.testing.assert_allclose(found, plain, rtol=1e-5)
    more = unit_rows(3, 4)
    expected = 0.0
    for i in range(6):
        for rows, own in (((*TARGET, *more), SOURCE[i]), (SOURCE, TARGET[i])):
            logits = np.array([7.0 * float(own @ row) for row in rows])
            expected += (np.log(np.exp(logits).sum()) - logits[i]) / 12
    found = pairwise.info_nce(SOURCE, TARGET, 7.0, chunk, bank=bank.add(empty, more))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # Another view of the row's place is no negative of that row.
    place = np.arange(6, dtype=np.int32)
    same = bank.add(empty, SOURCE[:1], place[:1])
    found = pairwise.info_nce(SOURCE[:1], TARGET[:1], 7.0, place=place[:1], bank=same)
    np.testing.assert_allclose(found, 0.0, atol=1e-6)


@pytest.mark.parametrize("chunk", [0, 2])
def test_a_constant_embedding_is_chance(chunk):
    constant = np.full((6, 4), 0.5, np.float32)
    loss = pairwise.info_nce(constant, constant, 50.0, chunk)
    np.testing.assert_allclose(loss, np.log(6), rtol=1e-5)
    assert pairwise.retrieval_accuracy(constant, constant, chunk) == 0


def test_soft_margin_triplet_by_hand():
    distance = lambda a, b: np.square(a - b).sum()  # noqa: E731
    total, count = 0.0, 0
    for a, b in ((SOURCE, TARGET), (TARGET, SOURCE)):
        for i in range(6):
            for j in range(6):
                if i != j:
                    gap = distance(a[i], b[i]) - distance(a[i], b[j])
                    total += np.logaddexp(0.0, 10.0 * gap)
                    count += 1
    found = pairwise.soft_margin_triplet(SOURCE, TARGET)
    np.testing.assert_allclose(found, total / count, rtol=1e-5)


@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_accuracy_by_hand(chunk):
    similarity = SOURCE @ TARGET.T
    expected = (similarity.argmax(1) == np.arange(6)).mean()
    found = pairwise.retrieval_accuracy(SOURCE, TARGET, chunk)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def pairs():
    source = unit_rows(64, 16)
    target = source + 1.5 * unit_rows(64, 16)
    return source, target / np.linalg.norm(target, axis=1, keepdims=True)


def spread(loss, chunk, mesh):
    """Value and gradients as the training step takes them."""
    gather_fn = functools.partial(replicate, mesh=mesh)

    def loss_fn(source, target, place):
        return loss(source, target, chunk=chunk, gather_fn=gather_fn, place=place)

    return jax.value_and_grad(loss_fn, argnums=(0, 1))


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
@pytest.mark.parametrize("chunk", [0, 16])
@pytest.mark.parametrize("name", LOSSES)
def test_blocks_and_devices_change_neither_value_nor_gradient(pairs, name, chunk, num_devices):
    place = np.arange(64, dtype=np.int32) // 3  # places of three rows
    loss_fn = functools.partial(LOSSES[name], place=place)
    expected, wanted = jax.value_and_grad(loss_fn, argnums=(0, 1))(*pairs)
    mesh = make_mesh({"data": -1}, jax.devices()[:num_devices])
    fn = jax.jit(spread(LOSSES[name], chunk, mesh), in_shardings=batch_sharding(mesh))
    found, grads = fn(*pairs, place)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    largest = max(float(np.abs(grad).max()) for grad in wanted)
    for grad, reference in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(grad, reference, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize(("chunk", "most"), [(0, 8 * 64), (16, 8 * 16)])
@pytest.mark.parametrize("name", LOSSES)
def test_no_device_holds_all_similarities(name, chunk, most):
    """In the program compiled for 8 devices, no array is longer than a device's rows of a block."""
    mesh = make_mesh({"data": -1})
    whole = NamedSharding(mesh, PartitionSpec())
    fn = jax.jit(
        spread(LOSSES[name], chunk, mesh),
        in_shardings=batch_sharding(mesh),
        out_shardings=(whole, batch_sharding(mesh)),
    )
    rows, place = (jax.ShapeDtypeStruct((64, *d), t) for d, t in (((2,), "f4"), ((), "i4")))
    text = fn.lower(rows, rows, place).compile().as_text()
    sizes = [
        int(np.prod([int(n) for n in dims.split(",")]))
        for dims in re.findall(r"f32\[([\d,]+)\]", text)
    ]
    assert max(sizes) == most


@pytest.mark.parametrize("chunk", [0, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_rows_of_one_place_are_no_negatives(name, chunk):
    """Rows 1 and 4 show one place: the term of either does not depend on the other's target."""
    place = np.array([0, 1, 2, 3, 1, 5], np.int32)
    loss_fn = functools.partial(LOSSES[name], chunk=chunk, place=place)
    other = TARGET.copy()
    other[4] = SOURCE[1]  # the smallest possible distance
    rows = lambda target: jax.grad(lambda a: loss_fn(a, target))(SOURCE)[1]  # noqa: E731
    np.testing.assert_allclose(rows(other), rows(TARGET), atol=1e-6)
    assert np.abs(rows(TARGET)).max() > 1e-3
    unmasked = jax.grad(lambda a: LOSSES[name](a, other, chunk=chunk))(SOURCE)[1]
    assert np.abs(unmasked - rows(TARGET)).max() > 1e-2
    unlike = loss_fn(SOURCE, TARGET, place=np.arange(6))
    np.testing.assert_allclose(unlike, LOSSES[name](SOURCE, TARGET, chunk=chunk), rtol=1e-6)


@pytest.mark.parametrize("chunk", [0, 3])
def test_rows_of_one_place_are_no_rivals(chunk):
    source, target = np.eye(6, dtype=np.float32), np.eye(6, dtype=np.float32)
    target[4] = source[1]
    assert pairwise.retrieval_accuracy(source, target, chunk) == pytest.approx(4 / 6)
    place = np.array([0, 1, 2, 3, 1, 5], np.int32)
    found = pairwise.retrieval_accuracy(source, target, chunk, place=place)
    # Row 4 is as far from its own target as from all others: a tie.
    assert found == pytest.approx(5 / 6)
