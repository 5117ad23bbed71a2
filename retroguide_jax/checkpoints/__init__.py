"""Checkpoints: saved, read, verified, resumed from, and loaded as models."""
