"""The networks as pure Linen modules: arrays in, arrays out; no config and no losses inside."""
