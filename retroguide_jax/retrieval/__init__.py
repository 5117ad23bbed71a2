"""Embeddings kept in a folder, and images found among them exactly."""
