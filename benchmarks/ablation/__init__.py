"""Modules of `ablate.py`."""
