"""Models in and out: the weights of other programs as work directories, our models for others."""
