"""What a training step would need and cost on accelerators that are not at hand."""
