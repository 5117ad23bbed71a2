"""Retrieval-guided cross-view image synthesis in JAX: aerial to ground panorama and back."""

__version__ = "0.1.0"
