"""The field's own tools beside ours: shared modules of agreement.py and metrics.py."""
