"""A run as one HTML page: what is known of it, what its networks make of some places, charts."""
