"""docs/export.md, block by block; and that programs draw what the work directory draws."""

import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_model import save_run
from tiny import make_tiny_config

from retroguide_jax import __main__ as cli

pytest.importorskip("flatbuffers")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
ONNX = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[b, 16, 16, 3] source, float[b, 4] z) => (float[b, 1, 1, 3] target)
<int64[2] axes = {1, 2}> { target = ReduceMean(source, axes) }
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the page's commands are run: with a run, two tiles, and two sets of views."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        _fill(place)
        yield place


def _fill(place):
    save_run(place / "runs" / "city", make_tiny_config())
    rng = np.random.default_rng(0)
    for folder, names in {
        "my_tiles": ["place", "other"],
        "their_views": range(6),
        "real_views": range(6),
    }.items():
        (place / folder).mkdir()
        for name in names:
            pixels = rng.integers(0, 256, (8, 32, 3), np.uint8)
            Image.fromarray(pixels).save(place / folder / f"{name}.png")


@pytest.fixture(scope="module")
def outputs(place):
    """Runs every block of the page but installations, in order: [(its text, its output)]."""
    outputs = []
    for language, text in re.findall(r"```(bash|python)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if text.startswith("pip "):
            continue
        if "--format=onnx" in text and not importlib.util.find_spec("jax2onnx"):
            # The page's readers of ONNX do not depend on the file's author.
            (place / "city_onnx").mkdir()
            onnx.save(onnx.parser.parse_model(ONNX), place / "city_onnx" / "generate.onnx")
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if language == "bash":
                assert cli.main(shlex.split(text)[1:]) == 0
            else:
                exec(text, {})
        outputs.append((text, printed.getvalue()))
    return outputs


def find_output(outputs, part):
    (found,) = [output for text, output in outputs if part in text]
    return found


def test_programs_and_their_card(outputs, place):
    printed = find_output(outputs, "--format=stablehlo")
    for name in ("embed_aerial", "embed_ground", "generate"):
        program = place / "city_programs" / f"{name}.stablehlo"
        assert f"{program.stat().st_size:,} bytes" in printed
        assert program.name in (program.parent / "README.md").read_text()


def test_the_program_draws_what_the_work_directory_draws(outputs, place):
    flags = ["--workdir=runs/city", "--input=my_tiles", "--output=same_views"]
    assert cli.main(["generate", *flags]) == 0
    for name in ("place.png", "other.png"):
        program, workdir = (
            np.asarray(Image.open(place / folder / name)).astype(int)
            for folder in ("my_views", "same_views")
        )
        assert program.std() > 1
        assert np.abs(program - workdir).max() <= 1  # where rounding to a level is nearly a tie


def test_the_pages_own_programs(outputs, place):
    assert -1 <= float(find_output(outputs, "def embed").split()[-1]) <= 1
    assert (place / "view.png").is_file()
    assert "fd_ours" in find_output(outputs, "--features=ours")
