from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from retroguide_jax.config import (
    complete_config,
    config_from_json,
    config_to_json,
    list_packaged_configs,
    load_config,
    split_overrides,
)
from retroguide_jax.errors import UserError

pytestmark = pytest.mark.smoke

CONFIG = """
from ml_collections import ConfigDict, config_dict

def get_config(arg="plain"):
    config = ConfigDict()
    config.name = arg
    config.seed = 1
    config.double_seed = config.get_oneway_ref("seed") * 2
    config.workers = config_dict.placeholder(int)
    config.nothing = None
    config.data = ConfigDict({"batch_size": 16, "augment": True, "aerial_size": (64, 64)})
    config.optimizer = ConfigDict({"learning_rate": 2e-4, "betas": (0.0, 0.99), "names": ("a",)})
    config.optimizer.empty = ()
    return config
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "tiny.py"
    file.write_text(CONFIG)
    return str(file)


def test_a_file_is_loaded_with_and_without_an_argument(path):
    assert load_config(path).name == "plain"
    assert load_config(f"{path}:other").name == "other"


def test_the_config_is_locked_but_its_fields_can_be_set(path):
    config = load_config(path)
    config.seed = 3
    with pytest.raises(AttributeError):
        config.data.new_field = 1


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("--config.seed=7", "seed", 7),
        ("--config.seed=-7", "seed", -7),
        ("--config.name=a=b c", "name", "a=b c"),
        ("--config.name=", "name", ""),
        ("--config.workers=2", "workers", 2),
        ("--config.data.batch_size=4", "data.batch_size", 4),
        ("--config.data.augment=false", "data.augment", False),
        ("--config.data.aerial_size=(32, 48)", "data.aerial_size", (32, 48)),
        ("--config.data.aerial_size=32,48", "data.aerial_size", (32, 48)),
        ("--config.optimizer.betas=(0, 0.9)", "optimizer.betas", (0, 0.9)),
        ("--config.optimizer.names=('b',)", "optimizer.names", ("b",)),
        ("--config.optimizer.names=()", "optimizer.names", ()),
        ("--config.optimizer.names=('b', 'c')", "optimizer.names", ("b", "c")),
        ("--config.optimizer.empty=(1, 'x')", "optimizer.empty", (1, "x")),
        ("--config.optimizer.learning_rate=1e-3", "optimizer.learning_rate", 1e-3),
        ("--config.optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
    ],
)
def test_an_override_takes_the_type_of_its_field(path, override, field, value):
    found = load_config(path, [override])
    for key in field.split("."):
        found = found[key]
    assert found == value
    assert type(found) is type(value)


def test_the_last_override_wins_and_derived_fields_follow(path):
    config = load_config(path, ["--config.seed=5", "--config.seed=6"])
    assert (config.seed, config.double_seed) == (6, 12)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "--config.data.batchsize=4",
            "--config.data.batchsize: no such field; did you mean --config.data.batch_size?",
        ),
        (
            "--config.batch_size=4",
            "--config.batch_size: no such field; did you mean --config.data.batch_size?",
        ),
        (
            "--config.date.batchsize=4",
            "--config.date.batchsize: no such field; did you mean --config.data.batch_size?",
        ),
        (
            "--config.optimizer.lr=4",
            "--config.optimizer.lr: no such field; --config.optimizer has betas, empty,"
            " learning_rate, names",
        ),
        (
            "--config.optimizer.inner.lr=4",
            "--config.optimizer.inner.lr: no such field; --config.optimizer has betas, empty,"
            " learning_rate, names",
        ),
        (
            "--config.data.aerial_size=64",
            "--config.data.aerial_size: expected a tuple such as (64, 64), got '64'",
        ),
        (
            "--config.zzz=4",
            "--config.zzz: no such field; the config has data, double_seed, name, nothing,"
            " optimizer, seed, workers",
        ),
        (
            "--config.data=4",
            "--config.data is a section; set one of its fields: data.aerial_size, data.augment,"
            " data.batch_size",
        ),
        (
            "--config.data.batch_size=many",
            "--config.data.batch_size: expected an int such as 16, got 'many'",
        ),
        (
            "--config.data.batch_size=0.5",
            "--config.data.batch_size: expected an int such as 16, got '0.5'",
        ),
        (
            "--config.data.augment=perhaps",
            "--config.data.augment: expected a bool such as true, got 'perhaps'",
        ),
        (
            "--config.data.aerial_size=(a, b",
            "--config.data.aerial_size: expected a tuple such as (64, 64), got '(a, b'",
        ),
        (
            "--config.data.aerial_size=('a', 'b')",
            "--config.data.aerial_size: expected a tuple such as (64, 64), got \"('a', 'b')\"",
        ),
        (
            "--config.optimizer.learning_rate=fast",
            "--config.optimizer.learning_rate: expected a float such as 0.0002, got 'fast'",
        ),
        ("--config.workers=few", "--config.workers: expected an int, got 'few'"),
        (
            "--config.nothing=4",
            "--config.nothing: None gives this field no type to read '4' as; declare it in the"
            " config file as config_dict.placeholder(TYPE)",
        ),
        ("--config.seed", "--config.seed: an override is written --config.FIELD=VALUE"),
    ],
)
def test_a_wrong_override_is_explained(path, override, message):
    with pytest.raises(UserError) as caught:
        load_config(path, [override])
    assert str(caught.value) == message


def test_missing_configs_are_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "retroguide_jax.config.list_packaged_configs", lambda: ["city", "city_256", "default"]
    )
    with pytest.raises(UserError, match=r"--config=citty: .* did you mean city\? there are city,"):
        load_config("citty")
    with pytest.raises(UserError, match=r"no such file; packaged configs, by name: city, city_256"):
        load_config(str(tmp_path / "absent.py"))
    with pytest.raises(UserError, match=r"name ends in \.py"):
        load_config(str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", r"SyntaxError: .*line 1\)"),
        ("\nprint(undefined)", r"NameError: .*'undefined'.*line 2\)"),
        ("import absent_module", r"ModuleNotFoundError: .*line 1\)"),
        ("a = 1", r"has no function get_config\(\)"),
        ("def get_config(): return 3", r"returned int, not a ConfigDict"),
        ("def get_config(): return {}['a']", r"KeyError: 'a' .*line 1\)"),
        ("def get_config(a): return a", r"needs an argument \(.*:ARG\)"),
        (
            "import ml_collections as m\ndef get_config(): return m.ConfigDict({'a': {'b': [1]}})",
            r"a\.b is a list; write it as a tuple",
        ),
        (
            "import ml_collections as m\ndef get_config(): return m.ConfigDict({'a': (1, b'')})",
            r"a is bytes; use numbers",
        ),
        (
            "from ml_collections import config_dict as c\n"
            "def get_config(): return c.create(a=c.required_placeholder(int))",
            r"set it with --config\.FIELD=VALUE",
        ),
    ],
)
def test_a_slip_in_a_config_file_is_explained(tmp_path, text, message):
    file = tmp_path / "wrong.py"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        load_config(str(file))


def test_an_argument_that_is_not_taken_is_explained(tmp_path):
    file = tmp_path / "plain.py"
    file.write_text("import ml_collections\ndef get_config(): return ml_collections.ConfigDict()")
    with pytest.raises(UserError, match="takes no argument"):
        load_config(f"{file}:arg")


def test_overrides_are_split_from_other_arguments():
    overrides, rest = split_overrides(
        ["--workdir=w", "--config.a.b=c=d", "--config.n", "-3", "--config.s", "x", "--config.t"]
        + ["--config=city", "--config.u", "--other", "y"]
    )
    assert overrides == [
        "--config.a.b=c=d",
        "--config.n=-3",
        "--config.s=x",
        "--config.t=true",
        "--config.u=true",
    ]
    assert rest == ["--workdir=w", "--config=city", "--other", "y"]


_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_pairs = st.tuples(_scalars, _scalars)
_leaves = _scalars | st.just(()) | _pairs | st.tuples(_pairs, _scalars)
_names = st.sampled_from(["a", "b_c", "seed2"])
_sections = st.dictionaries(_names, _leaves, max_size=3)
_trees = st.dictionaries(_names, _leaves | _sections, max_size=3)


@settings(deadline=None, max_examples=100)
@given(_trees)
def test_json_gives_back_what_was_stored(tree):
    config = ConfigDict(tree)
    found = config_from_json(config_to_json(config))
    assert found.to_dict() == tree
    assert repr(found.to_dict()) == repr(config.to_dict())
    assert found.is_locked


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_stored_config_is_explained(text):
    with pytest.raises(UserError, match="damaged"):
        config_from_json(text)


def test_an_older_run_gets_the_defaults_of_newer_fields():
    older = ConfigDict({"generator": {"width": 3, "gone": 1}, "seed": 7})
    config = complete_config(older)
    assert (config.generator.width, config.generator.gone, config.seed) == (3, 1, 7)
    assert config.generator.guidance == load_config("default").generator.guidance
    assert config.is_locked


@pytest.mark.parametrize("name", list_packaged_configs())
def test_every_packaged_config_loads_and_is_stored_exactly(name):
    config = load_config(name)
    assert config_from_json(config_to_json(config)) == config


def test_packaged_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    files = Path(__file__).resolve().parents[1].glob("configs/[!_]*.py")
    monkeypatch.chdir(tmp_path)
    assert list_packaged_configs() == sorted(file.stem for file in files)


def test_a_renamed_field_is_named_by_its_new_name(tmp_path, capsys):
    with pytest.raises(UserError, match="train.eval_every is now called --config.eval.every"):
        load_config("city", ["--config.train.eval_every=5"])
    path = tmp_path / "old.py"
    path.write_text(
        "from retroguide_jax.configs import city\n\n\n"
        "def get_config():\n  config = city.get_config()\n"
        "  config.train.best_metric = 'psnr'\n  config.train.ema_halflife_images = 800\n"
        "  return config\n"
    )
    config = load_config(str(path))
    assert config.eval.best_metric == "psnr" and "best_metric" not in config.train
    assert config.train.ema_halflife_generator == 800 / config.train.adversarial_batch_size
    warned = capsys.readouterr().err
    assert "train.best_metric is now eval.best_metric; rename it" in warned
    assert "train.ema_halflife_images is now" in warned
