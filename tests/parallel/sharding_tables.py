"""Where every array of a packaged config's state lies on a mesh of data=4, fsdp=2, as text.

Whole tables of the parameters of two configs, to read; of every config the digest of all arrays.

Writes the golden tables again:

    python tests/parallel/sharding_tables.py
"""

import functools
import hashlib
from pathlib import Path

import jax

from retroguide_jax.config import list_packaged_configs, load_config
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import make_mesh
from retroguide_jax.parallel.rules import sharding_table, state_shardings
from retroguide_jax.state import initial_state

CONFIGS = ("default", "city")


def golden_path(name):
    return Path(__file__).parent / f"sharding_{name}.txt"


@functools.cache
def full_table(name):
    """Rows (path, shape, dtype, spec) of the whole state."""
    config = load_config(name, [])
    shapes = jax.eval_shape(lambda: initial_state(config, make_networks(config)))
    mesh = make_mesh({"data": 4, "fsdp": 2}, jax.devices()[:8])
    return sharding_table(shapes, state_shardings(shapes, config.sharding_rules, mesh))


def format_table(rows):
    """One line per row."""
    return "".join(f"{path} {shape} {dtype} {spec}\n" for path, shape, dtype, spec in rows)


def format_params(rows):
    """The rows of the trained parameters; averages and moments mirror them."""
    return format_table(row for row in rows if row[0].startswith("params/"))


DIGESTS = Path(__file__).parent / "sharding_digests.txt"


def format_digest(name):
    """The line of a config in the file of digests."""
    rows = full_table(name)
    digest = hashlib.sha256(format_table(rows).encode()).hexdigest()[:16]
    return f"{name} {len(rows)} arrays {digest}"


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    for name in CONFIGS:
        golden_path(name).write_text(format_params(full_table(name)))
        print(golden_path(name))
    lines = [format_digest(name) for name in list_packaged_configs()]
    DIGESTS.write_text("".join(f"{line}\n" for line in lines))
    print(DIGESTS)
