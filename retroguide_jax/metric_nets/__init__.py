"""Frozen networks that metrics look through: pure functions of weights and uint8 images."""
