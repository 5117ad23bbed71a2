"""TFDS builders, one folder each; `data.catalog.open_dataset` finds them by name."""
