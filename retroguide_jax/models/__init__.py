"""The networks as pure Linen modules: arrays in, arrays out; no configuration and no losses inside."""
