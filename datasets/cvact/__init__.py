"""CVACT: aerials and 180-degree street panoramas of Canberra."""
