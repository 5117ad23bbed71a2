"""The training state, created in place on its devices, and its optimizers."""

import dataclasses
from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from retroguide_jax import bank
from retroguide_jax.bank import Bank
from retroguide_jax.networks import Networks
from retroguide_jax.parallel.rules import state_shardings
from retroguide_jax.schedule import Schedule


@flax.struct.dataclass
class TrainState:
    """All arrays of a run. Checkpoint files hold them as plain trees by the same names.

    Attributes:
      ema: {embedder: {params, stats}, generator?}: averaged weights, used to guide, to generate
        and in evaluations.
      opt: one optimizer state per entry of `params`.
      params: {embedder?, generator?, discriminator?}: trained parameters.
      skipped: {embedder?, generator?: {total, streak}} int32: number of updates that were not
        finite, in total so far and in a row.
      stats: {embedder?}: running BatchNorm statistics, empty with group norm.
      step: int32, steps done.
      bank: the guide's embeddings of earlier sources, see `retroguide_jax.bank`; empty without one.
      styles: the same of the style encoder's codes of earlier targets.
    """

    ema: dict[str, Any]
    opt: dict[str, Any]
    params: dict[str, Any]
    skipped: dict[str, Any]
    stats: dict[str, Any]
    step: jax.Array
    bank: Bank = dataclasses.field(default_factory=dict)
    styles: Bank = dataclasses.field(default_factory=dict)

    if TYPE_CHECKING:  # added by flax.struct.dataclass

        def replace(self, **fields: Any) -> "TrainState":
            """A copy with some fields replaced."""
            ...

    def update(self, **entries: dict[str, Any]) -> "TrainState":
        """Replaces entries of fields: `state.update(ema={"generator": average})`."""
        return self.replace(**{name: getattr(self, name) | new for name, new in entries.items()})

    def to_tree(self) -> dict[str, Any]:
        """{field: tree}, as checkpoints hold it."""
        tree = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        empty = [name for name in ("bank", "styles") if not tree[name]]
        return {name: value for name, value in tree.items() if name not in empty}


def make_schedule(config: ConfigDict, num_steps: int) -> optax.Schedule:
    """Learning rate by update: linear warm-up, then `decay`: none | linear | cosine to zero.

    Args:
      config: one entry of `config.optimizer`.
      num_steps: updates until the schedule ends.
    """
    rate, warmup = config.learning_rate, config.warmup_steps
    rest = max(1, num_steps - warmup)
    decays = {
        "none": optax.constant_schedule(rate),
        "linear": optax.linear_schedule(rate, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(rate, rest),
    }
    schedule = decays[config.decay]
    if warmup:
        schedule = optax.join_schedules(
            [optax.linear_schedule(0.0, rate, warmup), schedule], [warmup]
        )
    return schedule


def make_optimizer(config: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """AdamW (Adam without decay) with the rates of `make_schedule`; arguments as there."""
    schedule = make_schedule(config, num_steps)
    steps = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    adam = optax.adamw(schedule, config.b1, config.b2, weight_decay=config.weight_decay)
    return optax.chain(*steps, adam)


def make_optimizers(config: ConfigDict) -> dict[str, optax.GradientTransformation]:
    """One optimizer per trained network; rates are scheduled over that network's own updates."""
    schedule = Schedule(config)
    return {
        name: make_optimizer(config.optimizer[name], schedule.count(name))
        for name in schedule.networks
    }


def initial_state(config: ConfigDict, networks: Networks) -> TrainState:
    """Initialises everything from `config.seed`; traced under jit by `create_state`."""
    keys = jax.random.split(jax.random.key(config.seed), 3)
    images = {view: jnp.zeros((2, *size, 3)) for view, size in networks.sizes.items()}
    variables = networks.embedder.init(
        keys[0], images["aerial"], images["ground"], True, method="both"
    )
    embedder = {"params": variables["params"], "stats": variables.get("batch_stats", {})}
    params, stats, ema, negatives, styles = {}, {}, {"embedder": embedder}, {}, {}
    if config.mode != "frozen":
        params["embedder"], stats["embedder"] = embedder["params"], embedder["stats"]
    if config.mode != "contrastive":
        source, target = images[networks.source_view], images[networks.target_view]
        embedding, tokens = networks.embedder.apply(
            variables, source, networks.source_view, method="guide"
        )
        z = jnp.zeros((2, networks.generator.z_dim))
        noise_keys = jax.random.split(keys[1], 2)
        params["generator"] = networks.generator.init(
            keys[1], embedding, tokens, z, target, noise_keys, source
        )["params"]
        params["discriminator"] = networks.discriminator.init(keys[2], target, embedding, source)[
            "params"
        ]
        ema["generator"] = params["generator"]
        if config.losses.retrieval_bank:
            negatives = bank.create(config.losses.retrieval_bank, embedding.shape[1])
        if config.losses.style_bank and config.losses.style == "encoder":
            styles = bank.create(config.losses.style_bank, config.generator.style_dim)
    optimizers = make_optimizers(config)
    updates = [name for name in ("embedder", "generator") if name in params]
    return TrainState(
        ema=jax.tree.map(jnp.copy, ema),
        opt={name: optimizers[name].init(params[name]) for name in params},
        params=params,
        skipped={
            name: {"total": jnp.zeros((), jnp.int32), "streak": jnp.zeros((), jnp.int32)}
            for name in updates
        },
        stats=stats,
        step=jnp.zeros((), jnp.int32),
        bank=negatives,
        styles=styles,
    )


def abstract_state(config: ConfigDict, networks: Networks, mesh: Mesh) -> TrainState:
    """The state as ShapeDtypeStructs with shardings, from the config's rules; computes nothing."""
    shapes = jax.eval_shape(lambda: initial_state(config, networks))
    shardings = state_shardings(shapes, config.sharding_rules, mesh)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def create_state(config: ConfigDict, networks: Networks, mesh: Mesh) -> TrainState:
    """Creates the state on the mesh, inside jit: each device makes only its own shards."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(config, networks, mesh))
    # Initialisation runs once: optimising it would take longer than running it unoptimised.
    options = {"xla_backend_optimization_level": 0}
    initialise = jax.jit(
        lambda: initial_state(config, networks),
        out_shardings=shardings,
        compiler_options=options if jax.default_backend() == "cpu" else None,
    )
    return initialise()
