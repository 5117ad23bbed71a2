import os

import pytest

from retroguide_jax.commands import evaluate
from retroguide_jax.errors import UserError


def test_judges_are_named_after_their_directories():
    judges = evaluate.name_judges("w", ["runs/judge/", "embedder", "other/judge", "x/judge"])
    assert list(judges) == ["judge", "embedder_2", "judge_2", "judge_3"]
    assert list(evaluate.name_judges(None, ["w"])) == ["w"]


def test_model_is_no_judge_of_itself(tmp_path):
    (tmp_path / "w").mkdir()
    os.symlink(tmp_path / "w", tmp_path / "link")
    for judge in ("w", "w/", "../" + tmp_path.name + "/w", "link"):
        with pytest.raises(UserError, match="is the model to be scored"):
            evaluate.name_judges(str(tmp_path / "w"), [f"{tmp_path}/{judge}"])
    with pytest.raises(UserError, match="given twice"):
        evaluate.name_judges("w", ["j", "./j"])
