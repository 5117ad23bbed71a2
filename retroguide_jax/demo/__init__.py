"""A local web page: drop a source image, see the generated target views and the retrieved ones."""
