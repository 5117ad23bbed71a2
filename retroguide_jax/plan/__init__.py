"""Memory, time and scaling of a training step on accelerators, estimated without them."""
