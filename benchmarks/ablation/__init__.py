"""What `ablate.py` is made of."""
