"""The weight layout `torch`: our networks' arrays under PyTorch's names, in its order of axes."""
