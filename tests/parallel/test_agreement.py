from joined import run_job

from retroguide_jax.parallel.agreement import check_agreement, find_differences

HOSTS = ("a", "b", "c", "d")


def test_equal_processes_agree():
    assert find_differences(HOSTS, [{"jax": "0.10.2", "batches": "7"}] * 4) == ""
    check_agreement({"batches": "7"})  # a single process


def test_the_odd_processes_are_named_with_the_fact():
    facts = [{"jax": "0.10.2", "batches": "7", "config": "5f"} for _ in HOSTS]
    facts[3]["jax"] = "0.10.1"
    facts[0]["batches"] = facts[2]["batches"] = "8"
    facts[1]["batches"] = "8"
    del facts[2]["config"]
    assert find_differences(HOSTS, facts) == (
        "the processes of this job are not alike: "
        "jax is 0.10.2, but process 3 (host d) has 0.10.1; "
        "batches is 8, but process 3 (host d) has 7; "
        "config is 5f, but process 2 (host c) has nothing; start all of them in the same "
        "environment, by the same command, on the same data"
    )


def test_of_two_the_first_process_is_taken_for_the_usual():
    text = find_differences(HOSTS[:2], [{"jax": "1"}, {"jax": "2"}])
    assert "jax is 1, but process 1 (host b) has 2;" in text


def test_of_many_odd_processes_some_are_named():
    facts = [{"jax": "1"}] * 20 + [{"jax": str(number)} for number in range(2, 14)]
    text = find_differences([f"h{index}" for index in range(32)], facts)
    assert text.count("process ") == 8 and "has 9 and 4 more;" in text


def test_all_processes_end_by_the_same_error():
    body = """
    from retroguide_jax.parallel.agreement import check_agreement

    if me == 1:
        import jax
        jax.config.update("jax_num_cpu_devices", 3)
    check_agreement({"batches per pass": "7" if me == 1 else "8"})
    print("never here")
    """
    for index, (status, out, err) in enumerate(run_job(3, body)):
        assert (status, out) == (1, "")
        assert err.startswith(f"[{index}/3] error: the processes of this job are not alike: ")
        assert "local devices is 1, but process 1 (host " in err and ") has 3; " in err
        assert "batches per pass is 8, but process 1 (host " in err and ") has 7; " in err
        assert len(err.splitlines()) == 1
