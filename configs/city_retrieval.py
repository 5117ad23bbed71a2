"""An embedder alone on the procedural city: the retrieval baseline, and a judge of `city`.

    retroguide train --config=city_retrieval --workdir=runs/city_retrieval

A judge must be independent of the embedder that guides the training of the generator. By default,
seed, stem, width, depth and temperature differ; `city_retrieval:convnext` is a judge of another
family: another backbone, and half of the training pairs.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import city


def get_config(backbone: str = "saig") -> ConfigDict:
    """Mode contrastive on the data of `city`; `backbone` is saig or convnext."""
    config = city.get_config()
    config.mode = "contrastive"
    config.generator.fine_tokens = 0  # there is no G to look at them
    config.seed = 1001
    config.embedder.backbone = backbone
    config.embedder.temperature = 0.05
    # At this size, this stem is better on real images than the leaner stem of `city`.
    config.embedder.saig.width = 64
    config.embedder.saig.depth = 2
    config.embedder.saig.stem_features = (32, 48, 48, 96, 96, 96)
    config.embedder.saig.stem_strides = (2, 2, 1, 2, 1, 1)
    # Two stages, to keep positions: four would leave 2 x 2 tokens.
    config.embedder.convnext.widths = (48, 96)
    config.embedder.convnext.depths = (2, 2)
    if backbone == "convnext":
        config.seed = 2002
        config.data.train_split = "train[2048:]"
    config.train.num_steps = 250
    config.train.batch_size = 64
    config.train.adversarial_batch_size = 64
    config.eval.every = 250
    config.train.checkpoint_every = 125
    return config
