"""The code of docs/python.md does what the page says, with tiny networks."""

import re

import numpy as np
import pytest
from docs_commands import ROOT
from pair_files import write_pairs
from random_model import save_run
from tiny import make_tiny_config

import retroguide_jax as rg

PAGE = ROOT / "docs" / "python.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The names that the page's code has defined at its end."""
    folder = tmp_path_factory.mktemp("page")
    save_run(folder / "runs" / "city", make_tiny_config())
    write_pairs(folder / "my_pairs", 20, (40, 40), (20, 80))
    (folder / "tile.png").write_bytes((folder / "my_pairs" / "aerial" / "003.png").read_bytes())
    text = PAGE.read_text()
    blocks = [
        # Pad each block with the page's preceding lines, so that an error names the page's line.
        "\n" * text[: match.start(1)].count("\n") + match[1]
        for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL)
    ]
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(rg, "get_config", lambda name: make_tiny_config(), raising=False)
        for block in blocks:
            exec(compile(block, PAGE, "exec"), names)
        yield names


def test_it_draws(names):
    assert names["panoramas"].shape == (3, 8, 32, 3)
    assert names["drawn"].shape == names["pairs"]["ground"].shape == (20, 8, 32, 3)


def test_it_retrieves(names):
    np.testing.assert_array_equal(
        names["ranks"] == 1, names["found"].indices[:, 0] == np.arange(20)
    )


def test_its_loop_trains_and_what_it_saves_is_a_model(names):
    assert names["mine"].step == names["config"].train.num_steps == 20
    assert np.isfinite(names["metrics"]["g/l1"]) and names["metrics"]["skipped/total"] == 0
    assert names["mine"].generate(names["pairs"]["aerial"][:1]).shape == (1, 1, 8, 32, 3)
    with pytest.raises(rg.UserError, match="holds step 20"):
        rg.save("runs/mine", names["config"], names["state"])


def test_a_network_works_in_nnx(names):
    np.testing.assert_allclose(np.linalg.norm(names["unit_rows"], axis=1), 1, atol=1e-5)
