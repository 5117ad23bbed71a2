"""What the compiler said is kept by program and target, and made anew where a file is damaged."""

import jax
import jax.numpy as jnp
import pytest

from retroguide_jax.plan import kept


@pytest.fixture
def compiled(monkeypatch):
    """The list of programs that were really compiled."""
    calls = []
    compile_lowered = kept.compile_lowered
    monkeypatch.setattr(
        kept, "compile_lowered", lambda lowered: calls.append(lowered) or compile_lowered(lowered)
    )
    return calls


def test_a_program_is_compiled_once(tmp_path, compiled):
    def lower(factor):
        return jax.jit(lambda x: factor * jnp.dot(x, x)).lower(jnp.ones((4, 4)))

    first = kept.keep(tmp_path, lower(2), topology="a")
    assert first.fits and first.needed_bytes == 0 and first.bytes["arguments"] == 64
    assert kept.keep(tmp_path, lower(2), topology="a") == first and len(compiled) == 1
    kept.keep(tmp_path, lower(3), topology="a")
    kept.keep(tmp_path, lower(2), topology="b")
    assert len(compiled) == 3
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:50])
    assert kept.keep(tmp_path, lower(2), topology="a").bytes == first.bytes and len(compiled) == 4
