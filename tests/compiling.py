"""How programs are compiled for tests: fast, since most of the suite's time is compilation."""

from importlib.metadata import version

# Compiling well would take far longer than tests run. XLA's newer emitter of fused loops takes a
# tenth of the suite's processor time; releases after 0.10 have no other.
_OLDER_EMITTER = " --xla_cpu_use_fusion_emitters=false"
FAST = "--xla_backend_optimization_level=0" + (
    _OLDER_EMITTER if version("jaxlib").startswith("0.10.") else ""
)


def make_xla_flags(num_devices: int) -> str:
    """XLA_FLAGS of a process that compiles fast and simulates so many devices."""
    return f"{FAST} --xla_force_host_platform_device_count={num_devices}"
