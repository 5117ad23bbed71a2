"""Frozen networks that metrics are computed with: pure functions of weights and uint8 images."""
