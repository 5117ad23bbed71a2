"""Our networks, losses and training step in plain PyTorch: a twin to compare results and speed.

Written from the same design as `retroguide_jax.models` and `retroguide_jax.training`; the package
never imports it. Images are NCHW in [-1, 1]. Parameters bear the names that
`retroguide_jax.exchange.twin` gives, have PyTorch's own shapes, and start as PyTorch's layers do:
load what they shall be. Left out, as they change no result: rematerialisation, micro-batches,
chunks of the contrastive loss, devices beside one; and the ConvNeXt backbone.
"""
