"""A built data set of numbered pairs, shared by all data tests."""

import pytest
from pair_files import make_data_config, write_pairs

from retroguide_jax.data import catalog


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """(builder, data_config) of 30 flat pairs."""
    root = tmp_path_factory.mktemp("pairs")
    data_config = make_data_config(write_pairs(root / "raw", 30))
    return catalog.open_dataset(data_config, root / "built"), data_config
