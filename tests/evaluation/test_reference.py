import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.reference import Reference

DESCRIBED = {
    "examples": {"num": 3},
    "images": "uint8",
    "networks": {"net": {"fingerprint": "f", "protocol": "p"}},
    "seed": 0,
}
COLUMNS = {
    "id": np.array(["a", "b", "c"]),
    "real_digest": np.array(["0", "1", "2"]),
    "real/net.features": np.arange(6, dtype=np.float32).reshape(3, 2),
    "real/judge": np.zeros((3, 2), np.float32),
    "generated/net.features": np.ones((3, 1, 2), np.float32),
}


def test_rows_of_frozen_networks_are_kept(tmp_path):
    path = tmp_path / "new" / "reference.npz"
    Reference(path).write(DESCRIBED, COLUMNS)
    known = Reference(path).read(DESCRIBED | {"seed": 5})  # noise does not affect real images
    assert known.keys() == {"id", "real_digest", "real/net.features"}
    np.testing.assert_array_equal(known["real/net.features"], COLUMNS["real/net.features"])


def test_without_a_file_the_job_remembers():
    reference = Reference(None)
    assert reference.read(DESCRIBED) == {}
    reference.write(DESCRIBED, COLUMNS)
    assert "real/net.features" in reference.read(DESCRIBED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": {"num": 4}}, "other images"),
        ({"images": "float"}, "another range"),
        ({"networks": {"net": {"fingerprint": "g", "protocol": "p"}}}, "other networks"),
    ],
)
def test_what_was_made_otherwise_is_an_error(tmp_path, change, message):
    path = tmp_path / "reference.npz"
    Reference(path).write(DESCRIBED, COLUMNS)
    with pytest.raises(UserError, match=message):
        Reference(path).read(DESCRIBED | change)


def test_other_ids_are_an_error(tmp_path):
    path = tmp_path / "reference.npz"
    Reference(path).write(DESCRIBED, COLUMNS)
    reference = Reference(path)
    reference.read(DESCRIBED)
    with pytest.raises(UserError, match="other names"):
        reference.write(DESCRIBED, COLUMNS | {"id": np.array(["a", "b", "x"])})


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_damaged_files(tmp_path, content):
    path = tmp_path / "reference.npz"
    Reference(path).write(DESCRIBED, COLUMNS)
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(UserError, match="no file of reference statistics"):
        Reference(path).read(DESCRIBED)


def test_pickled_content_is_refused(tmp_path):
    path = tmp_path / "reference.npz"
    np.savez(path, fingerprint=np.array("{}"), rows=np.array([object()], dtype=object))
    with pytest.raises(UserError, match="no file of reference statistics"):
        Reference(path).read(DESCRIBED)
