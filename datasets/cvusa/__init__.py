"""CVUSA (the CVPR subset): aerials and 90-degree street panoramas across the United States."""
