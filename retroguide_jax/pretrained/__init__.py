"""Trained models that are installed with the package: one folder each, with a model card."""
