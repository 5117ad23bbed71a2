"""The reference configuration: every field.

`retroguide_jax/choices.py` lists the valid values of fields that choose between several parts.
`docs/fidelity.md` says which parts the paper states, which are reported, and which this project
chose. Data locations and machines are not here: they are flags.
"""

from ml_collections import ConfigDict


def get_config(direction: str = "a2g") -> ConfigDict:
    """SAIG-S and the full generator, 256 x 256 aerials and 128 x 512 panoramas.

    Args:
      direction: "a2g" or "g2a"; the generator starts from 4 x 16 or from 4 x 4.
    """
    config = ConfigDict()
    config.seed = 0
    config.direction = direction
    config.mode = "joint"  # which networks are trained
    config.frozen_embedder = ""  # work directory of a trained embedder, for mode frozen
    config.dtype = "float32"  # dtype of the computation; parameters stay float32

    config.data = ConfigDict()
    config.data.name = "procedural_city"  # a data set of `data/catalog.py`
    config.data.config_name = "city_256"  # the builder's own config; "" for its default
    config.data.raw_dir = ""  # where raw images lie; "" takes the one copy built already
    config.data.allow_bad = False  # skip (and list) bad files instead of stopping the build
    config.data.store_resized = False  # store images at the sizes below, not the files' own bytes
    config.data.crop_metres = 30.0  # vigor_gen: side of the aerial cut out around the camera
    config.data.crop_outside = "drop"  # vigor_gen: treatment of a crop that leaves its tile
    config.data.train_split = "train[256:]"
    config.data.val_split = "train[:256]"  # for the score that selects the best checkpoint
    config.data.test_split = "test"
    config.data.aerial_size = (256, 256)  # height, width in pixels of the models' images
    config.data.ground_size = (128, 512)
    config.data.panorama = True  # 360 degrees, north in the centre: allows rotation, circular convs
    config.data.augment = True  # joint rotation by 90 degrees (panoramas only) and mirror
    config.data.num_threads = -1  # per process, to decode and augment; -1: one per core, up to 16

    config.embedder = ConfigDict()
    config.embedder.backbone = "saig"
    config.embedder.head = "smd"
    config.embedder.head_outputs = 8
    config.embedder.shared = False  # one tower for both views
    config.embedder.learned_temperature = False
    config.embedder.temperature = 0.02
    config.embedder.saig = ConfigDict()
    config.embedder.saig.width = 384
    config.embedder.saig.depth = 11  # 11: SAIG-S, 22: SAIG-D
    config.embedder.saig.num_heads = 12
    config.embedder.saig.stem_features = (64, 128, 128, 256, 256, 512)
    config.embedder.saig.stem_strides = (2, 2, 1, 2, 1, 2)
    config.embedder.saig.stem_norm = "batch"
    config.embedder.convnext = ConfigDict()
    config.embedder.convnext.widths = (128, 256, 512, 1024)
    config.embedder.convnext.depths = (3, 3, 27, 3)

    config.generator = ConfigDict()
    config.generator.guidance = "embedder"  # the part whose output conditions G
    config.generator.unet_features = (64, 128, 256, 512, 512)  # with guidance `pixels`
    config.generator.polar_source = False  # with guidance `pixels`: in polar coordinates
    config.generator.structure_features = (512, 512, 512, 256)
    if direction == "g2a":  # 4 x 4, doubled six times
        config.generator.structure_features = (512, 512, 512, 512, 256)
    config.generator.facade_features = (128, 64)  # () : one stage
    config.generator.width = 512  # width of e and w, which share one space
    config.generator.z_dim = 512
    config.generator.style_dim = 16  # width of the code between noise (or style encoder) and w
    config.generator.mapping_depth = 8
    config.generator.style_features = (32, 64, 128, 256)
    config.generator.aain_form = "mask"  # form of Attentional AdaIN
    config.generator.query_position = False  # `tokens`, `rays`: queries know their place
    config.generator.fine_tokens = 0  # halvings of E whose features lie beside its tokens
    config.generator.num_regions = 1  # 1: sigmoid mask; more: softmax regions; 0: no mask
    config.generator.mask_width = 100
    config.generator.modulation_hidden = 256
    config.generator.unfold = 1  # 2: the last block at half size, RGB by depth to space
    config.generator.normalise_last = False  # RMS norm before the RGB heads
    config.generator.start_from_embedding = True  # False: a learned constant
    config.generator.start_rank = 0  # rank of FC(e) over its positions; 0: full
    config.generator.reader_width = 0  # of the reader of directions (panoramas); 0: none
    config.generator.use_embedding = True  # ablation
    config.generator.use_style = True  # ablation: no noise style

    config.discriminator = ConfigDict()
    config.discriminator.features = (64, 128, 256, 512, 512)
    config.discriminator.width = 512
    config.discriminator.fold = 1  # 2: space to depth first, maps of half the size
    config.discriminator.conditioning = "projection"
    config.discriminator.patch = False  # add patch logits at a finer scale
    config.discriminator.init_scale = 1.0  # 1.923 fits leaky ReLU: 2 / (1 + 0.2 ** 2)

    config.losses = ConfigDict()
    config.losses.contrastive = "info_nce"
    config.losses.contrastive_chunk = 0  # columns of the B x B similarities at a time; 0: all
    config.losses.adversarial = "logistic"
    config.losses.penalty = "r1"
    config.losses.penalty_weight = 1.0
    config.losses.penalty_every = 16  # steps; the weight is scaled up to keep its mean
    config.losses.augment = 0.0  # strength, for all images of D: 0 (off) .. 1 (DiffAugment)
    config.losses.adversarial_weight = 1.0
    config.losses.reconstruction_weight = 10.0  # L1, only where the style explains the target
    config.losses.low_reconstruction_weight = 1.0
    config.losses.retrieval = "info_nce"
    config.losses.retrieval_weight = 1.0
    config.losses.retrieval_temperature = 0.1
    config.losses.retrieval_bank = 0  # earlier sources as further negatives; 0: none
    config.losses.guide_blur = False  # the guide sees the target view at half resolution
    config.losses.token_weight = 0.0  # L1 between the guide's tokens of generated and real target
    config.losses.style = "encoder"  # the method that makes z matter
    config.losses.style_noise = 0.2  # std added to an encoded style, whose dimensions have unit std
    config.losses.style_consistency_weight = 0.5
    config.losses.style_matching_weight = 1.0
    config.losses.style_draws = 0  # codes of noise to match per update; at least one per image
    config.losses.style_kept = False  # S learns in the structure stage alone, which must be there
    config.losses.style_bank = 0  # earlier targets' codes to match them with as well; 0: none
    config.losses.mode_seeking_weight = 1.0

    config.optimizer = ConfigDict()
    config.optimizer.embedder = ConfigDict(
        dict(
            learning_rate=1e-4, b1=0.9, b2=0.999, weight_decay=0.03, warmup_steps=0, decay="cosine"
        )
    )
    config.optimizer.generator = ConfigDict(
        dict(learning_rate=2e-4, b1=0.0, b2=0.99, weight_decay=0.0, warmup_steps=500, decay="none")
    )
    config.optimizer.discriminator = ConfigDict(
        dict(learning_rate=2e-4, b1=0.0, b2=0.99, weight_decay=0.0, warmup_steps=500, decay="none")
    )
    for optimizer in config.optimizer.values():
        optimizer.clip_norm = 1.0 if optimizer is config.optimizer.embedder else 0.0  # 0: off

    config.train = ConfigDict()
    config.train.num_steps = 100_000
    config.train.num_images = 0  # run length in pairs, which sets num_steps; 0: use num_steps
    # The batch_size for which rates, penalty_weight and num_steps were chosen; for another one they
    # are scaled by the rule of `scaling.py`. 0: no scaling.
    config.train.reference_batch = 0
    config.train.batch_size = 32  # pairs per step over all devices: the contrastive batch
    config.train.adversarial_batch_size = 32  # of these, the pairs G and D see
    config.train.contrastive_warmup_steps = 0  # embedder-only steps at the start (mode joint)
    config.train.structure_steps = 0  # first steps of G: its structure stage alone, without D
    config.train.contrastive_every = 1  # mode joint, after the warm-up: every n-th step; 0: never
    config.train.degrade = False  # for judges: train on soft, noisy, displaced images
    config.train.micro_batch_size = 0  # pairs embedded at a time, same negatives; 0: all at once
    config.train.remat = "none"  # what the backward pass recomputes
    config.train.update_order = "alternating"  # order of D's and G's updates
    config.train.ema_halflife_generator = 600.0  # half-life of averaged weights, in updates of G
    config.train.ema_halflife_guide = 600.0  # half-life of the averaged embedder, in its updates
    config.train.compiler_level = "default"  # XLA's optimisation level
    config.train.max_nonfinite = 20  # give up after this many skipped updates in a row
    config.train.max_rollbacks = 0  # roll back to the last good checkpoint up to N times first
    config.train.log_every = 50
    config.train.profile_steps = (0, 0)  # first and last step of a profiler trace; (0, 0): none
    config.train.sample_every = 1000
    config.train.checkpoint_every = 1000
    config.train.keep_checkpoints = 2

    config.eval = ConfigDict()
    config.eval.every = 5000  # steps between two scorings of the validation split
    config.eval.metrics = (  # names of `retroguide evaluate --list_metrics`
        "psnr", "ssim_rgb", "sharpness_ratio", "retrieval", "fd_judge", "diversity",
        "sky_spread_ratio", "broken_share",
    )  # fmt: skip
    config.eval.judges = ()  # work directories of independent embedders
    # The score that selects best/. auto: R@1 by the first judge; without judges, the Frechet
    # distance by the own embedder; in mode contrastive, its R@1 of real images.
    config.eval.best_metric = "auto"
    config.eval.batch_size = 16  # images per device at a time, an even number
    config.eval.num_noises = 4  # noise draws per source, for diversity

    config.mesh = ConfigDict(dict(slice=1, data=-1, fsdp=1))  # devices per axis; -1: the rest
    # First match wins; every leaf of the state must match. Tactics: replicate | fsdp.
    config.sharding_rules = ((".*", "fsdp"),)
    return config
