"""A small local page: drop a source image, see what the model makes of it and finds for it."""
