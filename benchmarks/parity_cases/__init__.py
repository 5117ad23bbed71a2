"""What benchmarks/parity.py compares: each layer, network, loss and step of ours with its twin."""
