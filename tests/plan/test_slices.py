"""Exchanges between TPU slices, read from a program of their compiler."""

import importlib.util
import subprocess
import sys

import pytest

# Twelve layers on two slices: without buckets, their gradients travel in twelve pieces.
_PROGRAM = """
from retroguide_jax.plan.topology import describe_topology, prepare_environment
prepare_environment("v5e:4x4")
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from retroguide_jax.parallel.mesh import batch_sharding, compiler_options, make_mesh

jax.config.update("jax_optimization_level", "O1")
mesh = make_mesh({"slice": 2, "data": -1}, describe_topology("v5e:4x4", 2).devices)

def step(layers, rows):
    def loss(layers):
        x = rows
        for layer in layers:
            x = jnp.tanh(x @ layer)
        return jnp.square(x).mean()
    return jax.grad(loss)(layers)

def shape(sharding):
    return jax.ShapeDtypeStruct((256, 256), jnp.float32, sharding=sharding)

whole = NamedSharding(mesh, PartitionSpec())
arguments = [shape(whole)] * 12, shape(batch_sharding(mesh))
for options in ({}, compiler_options(mesh)):
    text = jax.jit(step).lower(*arguments).compile(compiler_options=options).as_text()
    print(text.count(" send("))
"""


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_gradients_travel_in_one_bucket():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["12", "1"]
