"""A run with random weights, an index of its data set, and the demo's server on a free port."""

import numpy as np
import pytest
from demo_server import serve
from PIL import Image
from random_model import save_run
from tiny import make_tiny_config

from retroguide_jax import __main__ as cli
from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.data import catalog
from retroguide_jax.demo.app import make_app
from retroguide_jax.demo.gallery import Gallery
from retroguide_jax.demo.uploads import Limits
from retroguide_jax.retrieval.index import Index


@pytest.fixture(scope="session")
def place(make_once):
    """Holds `run`, `panoramas.index`, `tiles.index` and `tile.png`."""

    def fill(place):
        rng = np.random.default_rng(0)
        for folder, size in (("aerial", (20, 20)), ("ground", (8, 32))):
            (place / "pairs" / folder).mkdir(parents=True)
            for number in range(7):
                pixels = rng.integers(0, 256, (*size, 3), np.uint8)
                Image.fromarray(pixels).save(place / "pairs" / folder / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(place / "tile.png")
        rows = [f"aerial/{n}.png,ground/{n}.png,{'test' if n else 'train'}" for n in range(7)]
        manifest = place / "pairs" / "manifest.csv"
        manifest.write_text("\n".join(["aerial,ground,split", *rows]))
        fields = {"data.name": "image_pairs", "data.raw_dir": str(manifest)}
        config = make_tiny_config(**fields)
        with config.unlocked():
            config.data.config_name = ""
        catalog.open_dataset(config.data, place / "data")
        save_run(place / "run", config)
        index = ["retrieve", "index", f"--workdir={place}/run"]
        data = ["--data", f"--data_dir={place}/data", f"--output={place}/panoramas.index"]
        assert cli.main([*index, *data]) == 0
        tiles = [f"--images={place}/pairs/aerial", "--view=aerial", f"--output={place}/tiles.index"]
        assert cli.main([*index, *tiles]) == 0

    return make_once("demo", fill)


@pytest.fixture(scope="session")
def model(place):
    return load_model(place / "run")


@pytest.fixture(scope="session")
def gallery(place, model):
    return Gallery(Index.open(place / "panoramas.index"), model)


@pytest.fixture(scope="session")
def server(model, gallery):
    """The address of a server with the default limits."""
    with serve(make_app(model, gallery, Limits())) as address:
        yield address
