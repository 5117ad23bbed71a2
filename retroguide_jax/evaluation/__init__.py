"""Scores of a trained model: retrieval ranks, image quality, diversity, and the job around them."""
