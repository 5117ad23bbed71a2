"""The field's own tools beside ours: what agreement.py and metrics.py stand on."""
