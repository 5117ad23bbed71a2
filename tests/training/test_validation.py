import pytest

from retroguide_jax.config import load_config
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.registry import measure_merit
from retroguide_jax.evaluation.scores import Score
from retroguide_jax.training.validation import choose_best

METRICS = load_config("default").eval.metrics


@pytest.mark.parametrize(
    ("judges", "has_generator", "best"),
    [
        ([], True, "fd_embedder"),
        (["saig", "convnext"], True, "r@1_generated/saig"),
        ([], False, "r@1_real/embedder"),
        (["saig"], False, "r@1_real/embedder"),
    ],
)
def test_the_best_is_chosen_by_what_cannot_be_gamed(judges, has_generator, best):
    assert choose_best("auto", METRICS, judges, has_generator).text == best


@pytest.mark.parametrize(
    ("text", "metrics", "judges", "has_generator", "message"),
    [
        ("r@1_generated/embedder", METRICS, [], False, "mode contrastive draws nothing"),
        ("fd_embedder", METRICS, [], False, "mode contrastive draws nothing"),
        ("lpips_alex", METRICS, [], True, "needs lpips_alex; config.eval.metrics has psnr"),
        ("auto", ("psnr",), [], True, "'auto' needs fd_judge; config.eval.metrics has psnr"),
        (
            "r@1_generated/saig",
            METRICS,
            ["other"],
            True,
            "no judge of that name; .* embedder, other",
        ),
        ("psrn", METRICS, [], True, "no score"),
    ],
)
def test_a_best_that_is_not_measured_is_refused(text, metrics, judges, has_generator, message):
    with pytest.raises(UserError, match=message):
        choose_best(text, metrics, judges, has_generator)


@pytest.mark.parametrize(
    ("text", "worse", "better"),
    [
        ("r@1_generated/saig", 0.5, 0.6),
        ("fd_embedder", 0.6, 0.5),
        ("skyline_error", 0.2, 0.1),
        ("sharpness_ratio", 1.3, 0.9),
    ],
)
def test_merit_is_higher_where_a_score_is_better(text, worse, better):
    score = Score.parse(text)
    assert measure_merit(score, better) > measure_merit(score, worse)
