"""Starting and ending `retroguide demo`."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from compiling import FAST

from retroguide_jax import __main__ as cli


def test_it_serves_until_it_is_interrupted(place):
    command = [sys.executable, "-m", "retroguide_jax", "demo", f"--workdir={place}/run"]
    options = {"env": os.environ | {"XLA_FLAGS": FAST}, "text": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    server = subprocess.Popen([*command, "--port=0"], **options, **pipes)
    try:
        assert "compiling" in server.stdout.readline()
        words = server.stdout.readline().split()
        assert words[0] == "ready:" and words[1].startswith("http://127.0.0.1:")
        assert httpx.get(words[1]).status_code == 200
        server.send_signal(signal.SIGINT)
        printed, complained = server.communicate(timeout=30)
    finally:
        server.kill()
    assert (server.returncode, printed, complained) == (0, "ended\n", "")


def test_a_taken_port_is_reported_before_the_model_is_opened(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["demo", "--workdir=nowhere", f"--port={port}"]) == 1
    assert "choose another --port" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "is_warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_other_hosts_are_warned_of(host, is_warned, capsys):
    assert cli.main(["demo", "--workdir=nowhere", f"--host={host}", "--port=0"]) == 1
    complained = capsys.readouterr().err
    assert "nowhere: no such work directory" in complained
    assert ("anyone on the network" in complained) == is_warned


def test_a_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    assert cli.main(["demo", "--workdir=nowhere"]) == 1
    assert "pip install 'retroguide_jax[pages]'" in capsys.readouterr().err
