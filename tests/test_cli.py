import errno
import importlib
import os
import subprocess
import sys
import time
import types

import pytest

import retroguide_jax
from retroguide_jax import __main__ as cli
from retroguide_jax.commands import COMMANDS
from retroguide_jax.errors import UserError

pytestmark = pytest.mark.smoke

HEAVY = ("jax", "flax", "numpy", "tensorflow_datasets", "grain", "orbax", "ml_collections", "absl")


@pytest.fixture
def use_command(monkeypatch):
    """Returns use(run, **attributes): replaces `train` by a command of the test."""

    def use(run, **attributes):
        module = types.ModuleType("retroguide_jax.commands.train", "Trains nothing.\n\nAt 100 %.")
        module.EXAMPLE = "retroguide train --workdir=w"

        def add_flags(parser):
            parser.add_argument("--workdir", default="runs/x", help="where to write")
            parser.add_argument("--seed", default=0, type=int, help="of the noise")
            parser.add_argument("--plain", action="store_true", help="say less")

        module.add_flags = add_flags
        module.run = run
        for name, value in attributes.items():
            setattr(module, name, value)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return use


@pytest.fixture
def config_file(tmp_path):
    file = tmp_path / "tiny.py"
    file.write_text(
        "import ml_collections\n"
        "def get_config(arg='none'):\n"
        "    return ml_collections.ConfigDict({'arg': arg, 'data': {'batch_size': 16}})\n"
    )
    return str(file)


def _raise(error):
    def run(args):
        raise error

    return run


def test_help_lists_every_command_and_imports_nothing_heavy():
    program = (
        "import sys, retroguide_jax.__main__ as m\n"
        "try: m.main(['--help'])\n"
        f"finally: print([n for n in {HEAVY} if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    for name, text in COMMANDS.items():
        assert name in done.stdout
        assert text in done.stdout


def test_help_is_quick(run_command):
    def measure():
        start = time.perf_counter()
        assert run_command("--help").returncode == 0
        return time.perf_counter() - start

    # Take the best of three: other work on the machine can only add time.
    assert min(measure() for _ in range(3)) < 0.5


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_follows_the_protocol_and_explains_itself(name, capsys):
    command = importlib.import_module(f"retroguide_jax.commands.{name}")
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: retroguide {name}")
    assert command.__doc__.splitlines()[0] in text
    assert f"retroguide {name} " in command.EXAMPLE
    for line in command.EXAMPLE.strip().splitlines():
        assert line.strip() in text
    takes_overrides = getattr(command, "USES_CONFIG", getattr(command, "TAKES_OVERRIDES", False))
    assert ("--config.FIELD=VALUE" in text) == takes_overrides


@pytest.mark.parametrize("action", ["build", "show"])
def test_each_action_of_data_explains_itself(action, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["data", action, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: retroguide data {action}")
    assert "--data_dir" in text


def test_help_of_a_command_imports_nothing_heavy():
    program = (
        "import sys, retroguide_jax.__main__ as m\n"
        "try: m.main([sys.argv[1], '--help'])\n"
        "finally: print([n for n in ('jax', 'tensorflow_datasets', 'grain') if n in sys.modules],"
        " file=sys.stderr)"
    )
    for name in COMMANDS:
        done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True)
        assert done.stderr.strip() == "[]", name


def test_help_gives_defaults_and_the_example(use_command, capsys):
    use_command(lambda args: 0)
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = capsys.readouterr().out
    assert "where to write (default: runs/x)" in text
    assert "of the noise (default: 0)" in text
    assert "say less\n" in text
    assert "At 100 %." in text
    assert "example:\n  retroguide train --workdir=w" in text
    assert "--config" not in text


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"retroguide {retroguide_jax.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name a command: train, evaluate"),
        (["trian"], "no command 'trian'; did you mean train?"),
        (["zzz"], "no command 'zzz'; there are train, evaluate"),
        (["train", "--wordir=x"], "--wordir=x"),
        (["train", "--work=x"], "--work=x"),
        (["train", "--config.seed=1"], "--config.seed=1"),
    ],
)
def test_wrong_usage_exits_with_2(use_command, capsys, argv, message):
    use_command(lambda args: 0)
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_command_gets_its_flags_and_its_status_is_returned(use_command):
    use_command(lambda args: 7 if args.workdir == "w" else 0)
    assert cli.main(["train", "--workdir", "w"]) == 7
    assert cli.main(["train"]) == 0


def test_a_command_gets_its_config(use_command, config_file):
    found = []
    use_command(lambda args: found.append(args) or 0, USES_CONFIG=True)
    argv = ["train", f"--config={config_file}:a", "--config.data.batch_size", "4", "--workdir=w"]
    assert cli.main(argv) == 0
    assert found[0].config.to_dict() == {"arg": "a", "data": {"batch_size": 4}}
    assert found[0].config.is_locked
    assert found[0].workdir == "w"


def test_a_config_is_required(use_command, capsys):
    use_command(lambda args: 0, USES_CONFIG=True)
    with pytest.raises(SystemExit) as caught:
        cli.main(["train"])
    assert caught.value.code == 2
    assert "--config" in capsys.readouterr().err


def test_a_wrong_field_is_one_line(use_command, config_file, capsys):
    use_command(lambda args: 0, USES_CONFIG=True)
    status = cli.main(["train", f"--config={config_file}", "--config.data.batchsize=4"])
    assert status == 1
    assert capsys.readouterr().err == (
        "error: --config.data.batchsize: no such field; did you mean --config.data.batch_size?\n"
    )


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("x is wrong; mend it"), 1, "error: x is wrong; mend it\n"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "w/step_1.png"),
            1,
            "error: No space left on device: w/step_1.png\n",
        ),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            1,
            "error: No space left on device: --workdir runs/x\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_expected_errors_are_one_line(use_command, capsys, monkeypatch, error, status, message):
    use_command(_raise(error))
    assert cli.main(["train"]) == status
    assert capsys.readouterr().err == message
    monkeypatch.setenv("RETROGUIDE_DEBUG", "1")
    with pytest.raises(type(error)):
        cli.main(["train"])


def test_a_fault_of_the_program_keeps_its_traceback(use_command):
    use_command(_raise(RuntimeError("a bug")))
    with pytest.raises(RuntimeError):
        cli.main(["train"])


def test_a_full_disk_is_one_line(tmp_path):
    """A write to /dev/full fails as on a full disk, without the file's name in the error."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    program = (
        "import sys, types\n"
        "m = types.ModuleType('train', 'Fills the disk.'); m.EXAMPLE = 'retroguide train'\n"
        "m.add_flags = lambda parser: parser.add_argument('--workdir')\n"
        "def run(args):\n"
        "    with open('/dev/full', 'w') as file: file.write('x')\n"
        "m.run = run\n"
        "sys.modules['retroguide_jax.commands.train'] = m\n"
        "import retroguide_jax.__main__ as cli\n"
        "sys.exit(cli.main(['train', '--workdir=w']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device: --workdir w\n")


def test_a_reader_that_leaves_is_no_error():
    program = (
        "import sys, types\n"
        "m = types.ModuleType('train', 'Talks.'); m.EXAMPLE = 'retroguide train'\n"
        "m.add_flags = lambda parser: None\n"
        "m.run = lambda args: [print('line') for _ in range(100000)] and 0\n"
        "sys.modules['retroguide_jax.commands.train'] = m\n"
        "import retroguide_jax.__main__ as cli\n"
        "sys.exit(cli.main(['train']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141


def test_training_compiles_at_the_level_of_the_config(monkeypatch, tmp_path):
    import jax

    from retroguide_jax.training import loop

    before, levels = jax.config.jax_optimization_level, []

    def record(*args, **kwargs):
        levels.append(jax.config.jax_optimization_level)
        return 0

    monkeypatch.setattr(loop, "train", record)
    try:
        flags = ["--config.train.compiler_level=O1", f"--workdir={tmp_path}"]
        assert cli.main(["train", "--config=city_smoke", *flags]) == 0
    finally:
        jax.config.update("jax_optimization_level", before)
    assert levels != [before] and len(levels) == 1


def test_a_work_directory_in_which_another_process_trains_is_refused(tmp_path, capsys):
    from retroguide_jax.files import lock_folder

    with lock_folder(tmp_path):
        status = cli.main(["train", "--config=city_smoke", f"--workdir={tmp_path}"])
    assert status == 1
    message = f"error: {tmp_path}: another `retroguide train` is running there; wait for its end"
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
