"""Memory by kind against the shapes, and the disk cache of compiled programs."""

import jax
import jax.numpy as jnp
import pytest
from tiny import make_tiny_config

from retroguide_jax.networks import make_networks
from retroguide_jax.plan import compiling
from retroguide_jax.plan.compiling import describe_step, measure_state, read_needed_bytes
from retroguide_jax.state import initial_state


def measure(**mesh):
    config = make_tiny_config(**{f"mesh.{axis}": size for axis, size in mesh.items()})
    return measure_state(describe_step(config, jax.devices()))


def test_replicated_state_is_whole_on_every_device():
    config = make_tiny_config()
    state = jax.eval_shape(lambda: initial_state(config, make_networks(config)))
    sizes = measure(data=8, fsdp=1)
    for kind, name in (("parameters", "params"), ("optimizer", "opt"), ("averages", "ema")):
        assert sizes[kind] == sum(leaf.size * 4 for leaf in jax.tree.leaves(getattr(state, name)))
    # A device's two pairs of 16 x 16 and 8 x 32 pixels of 3 bytes, with the number of their place.
    assert sizes["batch"] == 2 * ((16 * 16 + 8 * 32) * 3 + 4)


def test_fsdp_divides_the_state():
    whole, split = measure(data=8, fsdp=1), measure(data=1, fsdp=8)
    for kind in ("parameters", "optimizer", "averages"):
        assert whole[kind] / 8 <= split[kind] < whole[kind] / 2
    assert split["batch"] == whole["batch"]


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "the total memory required for HLO temporaries (21.5G) exceeds available HBM (15.75G)",
            21.5,
        ),
        ("Ran out of memory in memory space hbm. Used 21.50G of 15.75G hbm.", 21.5),
        ("something else", None),
    ],
)
def test_out_of_memory_messages_are_read(message, needed):
    assert read_needed_bytes(message) == (needed and int(needed * 2**30))


@pytest.fixture
def compiled(monkeypatch):
    """Programs that were really compiled, in order."""
    calls = []
    compile_lowered = compiling.compile_lowered
    monkeypatch.setattr(
        compiling,
        "compile_lowered",
        lambda *args: calls.append(args) or compile_lowered(*args),
    )
    return calls


def test_a_program_is_compiled_once(tmp_path, compiled):
    def lower(factor):
        return jax.jit(lambda x: factor * jnp.dot(x, x)).lower(jnp.ones((4, 4)))

    first = compiling.cached_compile(tmp_path, lower(2), topology="a")
    assert first.fits and first.needed_bytes == 0 and first.bytes["arguments"] == 64
    assert (
        compiling.cached_compile(tmp_path, lower(2), topology="a") == first and len(compiled) == 1
    )
    compiling.cached_compile(tmp_path, lower(3), topology="a")
    compiling.cached_compile(tmp_path, lower(2), topology="b")
    assert len(compiled) == 3
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:50])
    assert (
        compiling.cached_compile(tmp_path, lower(2), topology="a").bytes == first.bytes
        and len(compiled) == 4
    )
