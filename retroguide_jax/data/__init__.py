"""From stored pairs to batches: datasets by name, decoding, augmentation, Grain iterators."""
