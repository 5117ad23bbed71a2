import jax
import pytest
from jax.sharding import PartitionSpec
from sharding_tables import (
    CONFIGS,
    DIGESTS,
    format_digest,
    format_params,
    full_table,
    golden_path,
)

from retroguide_jax.config import list_packaged_configs
from retroguide_jax.errors import UserError
from retroguide_jax.parallel.mesh import make_mesh
from retroguide_jax.parallel.rules import partition_spec, state_shardings


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 4, "fsdp": 2})


@pytest.mark.parametrize(
    ("tactic", "shape", "spec"),
    [
        ("replicate", (8, 8), PartitionSpec()),
        ("fsdp", (), PartitionSpec()),
        ("fsdp", (3, 5), PartitionSpec()),
        ("fsdp", (8,), PartitionSpec("fsdp")),
        ("fsdp", (3, 3, 6, 12), PartitionSpec(None, None, None, "fsdp")),
        ("fsdp", (3, 3, 12, 6), PartitionSpec(None, None, "fsdp", None)),
        # The largest dimension is odd: the largest that divides is taken.
        ("fsdp", (9, 4, 6), PartitionSpec(None, None, "fsdp")),
        ("fsdp", (4, 4), PartitionSpec("fsdp", None)),
    ],
)
def test_tactics(mesh, tactic, shape, spec):
    assert partition_spec(tactic, shape, mesh) == spec


def test_one_fsdp_device_replicates():
    assert partition_spec("fsdp", (8, 8), make_mesh({"data": 8, "fsdp": 1})) == PartitionSpec()


def test_first_rule_wins_and_every_leaf_needs_one(mesh):
    state = {
        "a": {"kernel": jax.ShapeDtypeStruct((4, 8), float)},
        "b": jax.ShapeDtypeStruct((), int),
    }
    rules = (("kernel", "replicate"), ("^a/", "fsdp"), ("b", "replicate"))
    shardings = state_shardings(state, rules, mesh)
    assert shardings["a"]["kernel"].spec == PartitionSpec()
    assert state_shardings(state, rules[1:], mesh)["a"]["kernel"].spec == PartitionSpec(
        None, "fsdp"
    )
    with pytest.raises(UserError, match="no rule matches b"):
        state_shardings(state, rules[:2], mesh)


def test_unknown_tactic(mesh):
    state = {"a": jax.ShapeDtypeStruct((4, 8), float)}
    with pytest.raises(UserError, match="unknown tactic 'shard'; known: replicate, fsdp"):
        state_shardings(state, ((".*", "shard"),), mesh)


@pytest.mark.parametrize("name", list_packaged_configs())
def test_every_leaf_of_every_config_matches_and_mirrors_its_parameter(name):
    rows = {path: (shape, spec) for path, shape, _, spec in full_table(name)}
    params = {p.removeprefix("params/"): row for p, row in rows.items() if p.startswith("params/")}
    assert params
    mirrored = 0
    for path, row in rows.items():
        # opt/generator/0/mu/rgb/kernel and ema/embedder/params/x are placed as their parameter is.
        for own, placed in params.items():
            network, leaf = own.split("/", 1)
            if path.startswith((f"opt/{network}/", f"ema/{network}/")) and path.endswith(
                f"/{leaf}"
            ):
                assert row[0] != placed[0] or row == placed, path
                mirrored += 1
    # Two moments of Adam each, and an average, which the discriminator has not.
    assert mirrored == sum(2 if own.startswith("discriminator") else 3 for own in params)


@pytest.mark.smoke
@pytest.mark.parametrize("name", CONFIGS)
def test_golden_table(name):
    """A change of placement must be intended.

    Regenerate: python tests/parallel/sharding_tables.py
    """
    assert format_params(full_table(name)) == golden_path(name).read_text()


@pytest.mark.parametrize("name", list_packaged_configs())
def test_golden_digest_of_every_config(name):
    assert format_digest(name) in DIGESTS.read_text().splitlines()
