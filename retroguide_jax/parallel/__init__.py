"""Multi-process jobs: device meshes, sharding rules, coordination, failure and stop handling."""
