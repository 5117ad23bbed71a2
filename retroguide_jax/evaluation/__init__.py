"""Scores of a trained model: retrieval ranks, image quality, diversity, and their job."""
