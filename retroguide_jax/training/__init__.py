"""Training: state, losses, the one jitted step, the loop around it and its checkpoints."""
