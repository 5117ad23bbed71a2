"""Scores a trained model: retrieval ranks, image quality, diversity and the evaluation job."""
