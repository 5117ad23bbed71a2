"""The commands printed on the pages do what the pages say, on small data and random weights."""

import itertools
import re
import shlex
import shutil

import numpy as np
import pytest
import raw_cvusa
from docs_commands import ROOT, list_commands
from PIL import Image
from random_model import save_run
from tiny import make_tiny_config

from retroguide_jax import __main__ as cli
from retroguide_jax.config import config_to_json

# Run by other tests, because they take long or need files of their own.
ELSEWHERE = {
    r"train --config=city ": "tests/system/test_run.py",
    r"train --config=city_judge": "tests/training/test_switches.py",
    r"train --config=windows.py": "tests/system/test_jobs.py",
    r"train --config=cv|(train|data) .*(vigor|cvact|cvusa)": "tests/system/test_data_sets.py",
    r"train --config=image_pairs": "tests/system/test_own_photographs.py",
    r"data .* image_pairs": "tests/data/test_data_command.py",
    r"data build procedural_city": "tests/system/conftest.py",
    r"evaluate .*--watch|evaluate --workdir=W": "tests/system/test_evaluate.py",
    r".*=pretrained:": "tests/pretrained/test_copies.py",
    r"weights import": "tests/exchange/test_weights_page.py",
    r"weights export|generate --exported|.*--features": "tests/exchange/test_export_page.py",
    r"retrieve ": "tests/test_retrieve.py",
    r"demo ": "tests/demo/test_demo_command.py",
    r"plan ": "tests/plan/test_plan_command.py",
}
SMALL = {
    "data.ground_size": (16, 64),
    "data.config_name": "city_smoke",
    "data.train_split": "train[8:]",
    "data.val_split": "train[:8]",
}


def find_elsewhere(line):
    return next((test for words, test in ELSEWHERE.items() if re.match(words, line)), None)


def stand_in(line):
    """The command, on the one run that exists here in place of the pages' other runs."""
    return re.sub(r"\bruns/(mine|cvusa)\b", "runs/city", line.removeprefix("retroguide "))


LINES = list(dict.fromkeys(stand_in(line) for _, line in list_commands()))
HERE = [line for line in LINES if not find_elsewhere(line)]


@pytest.fixture(scope="module")
def ended(tmp_path_factory, data_dir):
    """{line: its exit status} of all commands that run here, in the pages' order, in one folder."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("TFDS_DATA_DIR", str(data_dir))
        write_world(place, data_dir)
        return {line: run(line) for line in HERE}


def write_world(place, data_dir):
    """Work directories, a raw CVUSA, and folders of images, named as on the pages."""
    config = make_tiny_config(**SMALL)
    save_run(place / "runs" / "city", config)
    (place / "runs" / "city" / "config.json").write_text(config_to_json(config))
    judge = {"mode": "contrastive", "seed": 5, "embedder.saig.width": 16}
    for folder in ("city/judge", "judges/saig", "judges/convnext"):
        save_run(place / "runs" / folder, make_tiny_config(**SMALL, **judge))
    (place / "runs" / "city" / "data").symlink_to(data_dir)  # where the demo has it
    raw_cvusa.write_tree(place / "CVUSA")
    rng = np.random.default_rng(0)
    tiles = dict.fromkeys(("my_tiles", "aerial"), (16, 16))
    views = dict.fromkeys(("their_views", "real_views", "theirs", "real"), (32, 128))
    for folder, size in (tiles | views | {"images": (32, 128)}).items():
        (place / folder).mkdir()
        ends = ("_fake_B", "_real_B") if folder == "images" else ("",)
        for name, end in itertools.product(range(4), ends):
            pixels = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(place / folder / f"{name}{end}.png")


def run(line):
    arguments = shlex.split(line)
    if arguments[:2] == ["evaluate", "--compare"]:
        for name in ("a", "b"):
            shutil.copytree("runs/city", f"runs/{name}")
    if arguments[0] == "data":  # the miniature's images are small
        arguments += ["--config.data.aerial_size=(64, 64)", "--config.data.ground_size=(32, 128)"]
    return cli.main(arguments)


@pytest.mark.parametrize("line", HERE)
def test_the_command_ends_well(ended, line):
    assert ended[line] == 0


@pytest.mark.parametrize(("words", "test"), ELSEWHERE.items())
def test_what_is_run_elsewhere_is_on_a_page_and_has_its_test(words, test):
    assert any(re.match(words, line) for line in LINES)
    assert (ROOT / test).exists()
