from retroguide_jax.evaluation.table import format_table


def test_table_shows_intervals_floors_and_ceiling():
    values = {
        "r@1_real/embedder": 0.9,
        "r@1_generated/embedder": 0.8,
        "r@1_shuffled/embedder": 0.01,
        "psnr": 15.5,
        "psnr_shuffled": 14.0,
        "psnr_mean_image": 16.25,
        "sharpness_ratio": 1.05,
        "r@1_same_view/embedder": 0.75,
    }
    metrics = {
        name: {"value": value, "low": value - 0.5, "high": value + 0.5, "n": 512}
        for name, value in values.items()
    }
    metrics["psnr"]["noise_std"] = 0.125
    metrics["psnr_nosky"] = {"value": None, "low": None, "high": None, "n": 4, "infinite": 1}
    row = {
        "metrics": metrics,
        "absent": [{"name": "sky_spread_ratio", "reason": "no sky masks"}],
    }
    lines = format_table(row).splitlines()
    heading = "metric generated low high noises shuffled mean image real n"
    assert lines[0].split() == heading.split()
    assert [line.split() for line in lines[2:7]] == [
        ["r@1/embedder", "0.8000", "0.3000", "1.3000", "-", "0.0100", "-", "0.9000", "512"],
        ["psnr", "15.5000", "15.0000", "16.0000", "0.1250", "14.0000", "16.2500", "-", "512"],
        ["sharpness_ratio", "1.0500", "0.5500", "1.5500", "-", "-", "-", "1.0000", "512"],
        ["r@1_same_view/embedder", "0.7500", "0.2500", "1.2500", "-", "-", "-", "-", "512"],
        ["psnr_nosky", "inf", "-", "-", "-", "-", "-", "-", "4"],
    ]
    assert lines[7] == "absent: sky_spread_ratio: no sky masks"
    assert len({len(line) for line in lines[:7]}) == 1


def test_table_of_an_embedder_shows_its_recall():
    metric = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    row = {"metrics": {"r@1_real/embedder": metric}, "absent": []}
    assert format_table(row).splitlines()[-1].split() == [
        "r@1/embedder", "-", "-", "-", "-", "-", "-", "0.5000", "8"
    ]  # fmt: skip


def test_a_ranking_of_ties_says_so():
    entry = {"value": 0.0, "low": 0.0, "high": 0.0, "n": 96}
    metrics = {"r@1_real/judge": entry, "r@1_same_view/judge": entry}
    row = {"metrics": metrics, "absent": [], "ties": {"real/judge": 96, "same_view/judge": 48}}
    lines = format_table(row).splitlines()
    assert [line for line in lines if line.startswith("ties")] == [lines[-1]]
    assert lines[-1].startswith("ties: real/judge: for 96 of 96 queries")
