"""The cases of benchmarks/parity.py: each layer, network, loss and step of ours, and its twin."""
