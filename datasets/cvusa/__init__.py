"""CVUSA (the CVPR subset): aerials and 90-degree street panoramas all over the United States."""
