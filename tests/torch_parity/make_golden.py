"""Makes golden.npz: outputs and gradients of the PyTorch twin, float32.

Inputs and weights are drawn from names (parity_cases/arrays.py), so only results are kept. In an
environment with torch:

    JAX_PLATFORMS=cpu python tests/torch_parity/make_golden.py
"""

from pathlib import Path

import conftest  # noqa: F401  puts the benchmarks on the path
import numpy as np
from golden_cases import list_cases, thin_out

if __name__ == "__main__":
    golden = {}
    for case in list_cases():
        kept = thin_out(case.theirs(np.dtype("float32")))
        golden[case.name] = np.concatenate(list(kept.values())).astype(np.float32)
    path = Path(__file__).with_name("golden.npz")
    np.savez_compressed(path, **golden)
    print(f"{path.name}: {len(golden)} cases, {path.stat().st_size / 1024:.0f} kB")
