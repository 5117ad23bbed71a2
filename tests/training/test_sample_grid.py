"""The sample grids that training writes."""

import types

import numpy as np

from retroguide_jax.training import reporter


def test_columns_of_a_sample_grid_have_headings(monkeypatch):
    pairs = [
        {
            "aerial": np.full((32, 32, 3), 200, np.uint8),
            "ground": np.full((16, 64, 3), 90, np.uint8),
        }
        for _ in range(2)
    ]
    monkeypatch.setattr(reporter, "read_pairs", lambda *args: pairs)
    seen = {}
    make_grid = reporter.make_grid

    def record(rows, **options):
        seen.update(options, columns=len(rows[0]))
        return make_grid(rows, **options)

    monkeypatch.setattr(reporter, "make_grid", record)
    model = types.SimpleNamespace(
        source_view="aerial",
        target_view="ground",
        z_dim=4,
        generate=lambda source, z: np.zeros((len(source), 16, 64, 3), np.float32),
    )
    data_config = types.SimpleNamespace(val_split="val")
    grid = reporter.SampleGrid(None, data_config).draw(model)
    assert seen["headings"] == ["source", "real", "generated 1", "generated 2", "generated 3"]
    assert seen["columns"] == 5
    assert (grid[2:15].max(axis=-1) < 128).any()  # the headings, above 32 pixels of the first row
