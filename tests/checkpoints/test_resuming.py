"""Which changes of the config a run may resume with."""

import pytest
from ml_collections import ConfigDict
from tiny import make_tiny_config

from retroguide_jax.checkpoints.resuming import check_change
from retroguide_jax.errors import UserError

SAVED = make_tiny_config()
FREE = {"mesh.fsdp": 2, "eval.batch_size": 4, "train.log_every": 7, "train.max_rollbacks": 3}


def check(allowed=(), **fields):
    return check_change("runs/a/checkpoints/4", SAVED, make_tiny_config(**fields), allowed)


def test_the_same_config_is_no_change():
    assert check() == check(allowed=["train.num_steps"]) == ""


def test_what_changes_nothing_that_is_learned_is_free_and_reported():
    text = check(**FREE)
    assert "config.mesh.fsdp was 1, now 2" in text
    assert text.count("config.") == len(FREE)


def test_other_changes_are_named_with_the_flag_that_allows_them():
    fields = {"optimizer.embedder.learning_rate": 0.5, "train.num_steps": 9}
    with pytest.raises(UserError, match="learning_rate was .*, now 0.5; config.train.num_steps"):
        check(**fields, **FREE)
    with pytest.raises(UserError) as caught:
        check(allowed=["train.num_steps"], **fields, **FREE)
    flag = "--allow_change=optimizer.embedder.learning_rate,train.num_steps"
    assert flag in str(caught.value) and "mesh" not in str(caught.value)
    text = check(allowed=list(fields), **fields, **FREE)
    assert text.count("config.") == len(fields) + len(FREE)


def test_shapes_that_differ_cannot_be_allowed():
    with pytest.raises(UserError, match=r"does not fit this config's networks.*saved \(8,\), now"):
        check(allowed=["embedder.saig.width"], **{"embedder.saig.width": 16})


def test_a_field_that_is_none_gets_a_suggestion():
    with pytest.raises(UserError, match="train.nun_steps: .* did you mean train.num_steps?"):
        check(allowed=["train.nun_steps"])


def test_fields_that_were_renamed_keep_their_values():
    saved = SAVED.to_dict()
    for name in ("every", "best_metric"):
        del saved["eval"][name]
    saved["train"] |= {"eval_every": 7, "best_metric": "r@1_real/embedder"}
    text = check_change("place", ConfigDict(saved), make_tiny_config(**{"eval.every": 8}), ())
    assert "config.eval.every was 7, now 8" in text and "train." not in text
    assert "config.eval.best_metric was 'r@1_real/embedder', now 'auto'" in text
