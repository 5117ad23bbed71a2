"""Compiler options of the tests: fast compilation, which takes most of the suite's time."""

from importlib.metadata import version

# Optimising would take far longer than running the tests. XLA's newer fusion emitter takes a tenth
# of the suite's processor time; JAX releases after 0.10 have no other.
_OLDER_EMITTER = " --xla_cpu_use_fusion_emitters=false"
FAST = "--xla_backend_optimization_level=0" + (
    _OLDER_EMITTER if version("jaxlib").startswith("0.10.") else ""
)


def make_xla_flags(num_devices: int) -> str:
    """XLA_FLAGS of a process that compiles fast and simulates `num_devices` devices."""
    return f"{FAST} --xla_force_host_platform_device_count={num_devices}"
