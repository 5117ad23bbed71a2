"""Small programs as the compiler prints them."""

from pathlib import Path

_HERE = Path(__file__).parent

# A loop of five rounds around an all-reduce, and one branch of two with an all-gather beside a
# convolution.
PROGRAM = (_HERE / "program.hlo").read_text()
# One gather that the TPU compiler has cut over three fusions, beside their own work.
CHAIN = (_HERE / "chain.hlo").read_text()
