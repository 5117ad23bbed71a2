"""image_pairs: your own aerial and ground photographs."""
