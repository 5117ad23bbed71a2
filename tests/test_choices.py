from operator import attrgetter

import pytest

from retroguide_jax.choices import CHOICES, check_choices
from retroguide_jax.config import list_packaged_configs, load_config
from retroguide_jax.errors import UserError


@pytest.mark.parametrize("name", list_packaged_configs())
def test_packaged_configs_choose_what_exists(name):
    check_choices(load_config(name))


@pytest.mark.parametrize("field", CHOICES)
def test_a_wrong_choice_is_named_with_its_alternatives(field):
    config = load_config("city")
    parent, _, name = field.rpartition(".")
    setattr(attrgetter(parent)(config) if parent else config, name, "no_such_part")
    with pytest.raises(UserError, match=f"config.{field}='no_such_part': choose one of"):
        check_choices(config)


def test_a_slip_of_the_pen_names_the_nearest():
    config = load_config("city", ["--config.generator.aain_form=token"])
    with pytest.raises(UserError, match="did you mean tokens"):
        check_choices(config)
