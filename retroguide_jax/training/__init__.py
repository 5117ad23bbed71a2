"""Training: losses, the one jitted step, the loop around it, its reports and validation."""
