"""A run as one HTML page: scores, learning curves, generated images and retrieval results."""
