"""The commands of `retroguide`: one thin module per command, imported only when it is run.

A command module has a docstring (the help text), `EXAMPLE` (a command line), `add_flags(parser)`
and `run(args) -> int`, which returns the exit status. With `USES_CONFIG = True` the command
takes `--config` and its overrides, and finds the loaded config in `args.config`; with
`TAKES_OVERRIDES = True` it finds only the overrides, in `args.overrides`.
Heavy imports (jax, tensorflow_datasets, grain) belong inside `run`, so that `--help` is instant.
"""

# Kept here rather than in the modules, so that `retroguide --help` need not import them.
COMMANDS = {
    "train": "train an embedder and a generator, or resume a run that was stopped",
    "evaluate": "measure a trained model, or anyone's images; compare two of them",
    "generate": "generate target views from source images",
    "report": "make one HTML page of a run, to look at or to send",
    "demo": "try a model on a local page: drop an image, see what it generates",
    "retrieve": "find where an image was taken, among the images of an index",
    "data": "check raw images, build a data set, or look at one",
    "plan": "estimate memory, step time and scaling on TPUs and GPUs, without one",
    "weights": "find, fetch or convert weight files; bring models in and out",
}
