"""The ground under everything: device meshes and sharding rules."""
