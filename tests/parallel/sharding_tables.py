"""Where every parameter of a packaged config lies on a mesh of data=4, fsdp=2, as text.

Writes the golden tables anew:

    python tests/parallel/sharding_tables.py
"""

from pathlib import Path

import jax

from retroguide_jax.config import load_config
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import make_mesh
from retroguide_jax.parallel.rules import sharding_table, state_shardings
from retroguide_jax.training.state import initial_state

CONFIGS = ("default", "city")


def golden_path(name):
    return Path(__file__).parent / f"sharding_{name}.txt"


def full_table(name):
    """Rows (path, shape, dtype, spec) of the whole state."""
    config = load_config(name, [])
    shapes = jax.eval_shape(lambda: initial_state(config, make_networks(config)))
    mesh = make_mesh({"data": 4, "fsdp": 2}, jax.devices()[:8])
    return sharding_table(shapes, state_shardings(shapes, config.sharding_rules, mesh))


def format_table(rows):
    """One line a row."""
    return "".join(f"{path} {shape} {dtype} {spec}\n" for path, shape, dtype, spec in rows)


def format_params(rows):
    """The rows of the trained parameters; averages and moments mirror them."""
    return format_table(row for row in rows if row[0].startswith("params/"))


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    for name in CONFIGS:
        golden_path(name).write_text(format_params(full_table(name)))
        print(golden_path(name))
