"""vigor_gen: VIGOR's panoramas with crops of its tiles, its tiles as they are, or your own."""
