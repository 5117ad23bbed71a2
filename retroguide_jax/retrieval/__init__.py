"""An index of embeddings in a folder, and exact nearest-neighbour search in it."""
