import os
import types

import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.judges import check_sizes, name_judges


def test_judges_are_named_after_their_directories():
    judges = name_judges("w", ["runs/judge/", "embedder", "other/judge", "x/judge"])
    assert list(judges) == ["judge", "embedder_2", "judge_2", "judge_3"]
    assert list(name_judges(None, ["w"])) == ["w"]


def test_model_is_no_judge_of_itself(tmp_path):
    (tmp_path / "w").mkdir()
    os.symlink(tmp_path / "w", tmp_path / "link")
    for judge in ("w", "w/", "../" + tmp_path.name + "/w", "link"):
        with pytest.raises(UserError, match="is the model to be scored"):
            name_judges(str(tmp_path / "w"), [f"{tmp_path}/{judge}"])
    with pytest.raises(UserError, match="given twice"):
        name_judges("w", ["j", "./j"])
    with pytest.raises(UserError, match="config.eval.judges=j: is given twice"):
        name_judges("w", ["j", "j"], flag="config.eval.judges")


def test_a_judge_of_another_size_is_refused():
    judge = types.SimpleNamespace(config=types.SimpleNamespace(data={"aerial_size": (8, 8)}))
    with pytest.raises(UserError, match="judge j: was trained with aerial_size"):
        check_sizes("j", judge, {"aerial": (16, 16)})
