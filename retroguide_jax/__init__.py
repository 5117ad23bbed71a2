"""Retrieval-guided cross-view image synthesis in JAX: aerial to ground panorama and back.

    import retroguide_jax as rg

    model = rg.load("runs/city")
    panoramas = model.generate(aerials, seed=0, num_samples=3)

`docs/python.md` shows the rest. Nothing is imported before it is used: JAX with the first name that
needs it.
"""

from retroguide_jax.lazy import make_lazy

__version__ = "0.1.0"

_NAMES = {
    "Discriminator": "models.discriminator:Discriminator",
    "Embedder": "models.embedder:Embedder",
    "Generator": "models.generator:Generator",
    "TrainedModel": "trained:TrainedModel",
    "UserError": "errors:UserError",
    "create_state": "state:create_state",
    "decode_image": "data.images:decode_image",
    "get_config": "config:load_config",
    "load": "trained:load",
    "make_mesh": "parallel.mesh:make_mesh",
    "make_networks": "networks:make_networks",
    "make_train_step": "training.steps:make_train_step",
    "metrics": "metrics",
    "place_batch": "parallel.mesh:place_batch",
    "resize_image": "data.images:resize_image",
    "save": "trained:save",
    "to_float": "data.images:to_float",
    "to_uint8": "data.images:to_uint8",
}
__getattr__, __dir__ = make_lazy(__name__, _NAMES)
