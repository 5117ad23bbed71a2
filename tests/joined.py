"""Runs the same few lines in several real processes that are connected over loopback."""

import os
import socket
import subprocess
import sys
import textwrap

# The lines run as a `retroguide` command, so that its errors are handled as in real commands.
_PROGRAM = """
import os, signal, sys, threading, time, types
from retroguide_jax import __main__
from retroguide_jax.errors import UserError
from retroguide_jax.parallel import failure, service
from retroguide_jax.parallel.processes import join_processes, writer_first

def run(args):
    join_processes()
    me = service.process_index()
{body}
    return 0

__main__.COMMANDS["lines"] = "of a test"
sys.modules["retroguide_jax.commands.lines"] = types.SimpleNamespace(
    run=run, add_flags=lambda parser: None, __doc__="Lines.", EXAMPLE="lines")
sys.exit(__main__.main(["lines"]))
"""


def run_job(num_processes, body, timeout=100):
    """Runs `body` in every process; `me` is the number of the process.

    Returns:
      [(exit status, stdout, stderr)], one per process. A process that runs longer than `timeout`
      fails the test.
    """
    program = _PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(num_processes),
        "XLA_FLAGS": "",
    }
    job = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | variables | {"JAX_PROCESS_ID": str(index)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(num_processes)
    ]
    try:
        texts = [process.communicate(timeout=timeout) for process in job]
    finally:
        for process in job:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(job, texts, strict=True)]
