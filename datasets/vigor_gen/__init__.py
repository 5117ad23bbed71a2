"""vigor_gen: VIGOR's panoramas with crops of its tiles, with its unchanged tiles, or with yours."""
