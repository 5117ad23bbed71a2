"""Both sides of step.py, each in a process of its own."""
