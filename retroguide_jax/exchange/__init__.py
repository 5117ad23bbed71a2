"""Import of other programs' weights into work directories, and export of our models."""
