"""Our networks, losses and training step in plain PyTorch: a twin to compare results and speed.

Written from the same design as `retroguide_jax.models` and `retroguide_jax.training`; the package
never imports it. Images are NCHW in [-1, 1]. Parameters have the names that
`retroguide_jax.exchange.twin` defines, PyTorch's own shapes, and PyTorch's default initialisation:
load weights to get others. Left out, since they change no result: rematerialisation, micro-batches,
chunks of the contrastive loss and further devices; also left out: the ConvNeXt backbone.
"""
