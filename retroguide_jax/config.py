"""Experiment configs: found by name or path, overridden from the command line, stored as JSON.

A config file is Python with a function `get_config()` or `get_config(arg)` that returns an
`ml_collections.ConfigDict`. Leaves are None, bool, int, float, str or (nested) tuples of those.
Lists are refused, so that a round trip through JSON, which has one kind of sequence, is exact.
"""

import difflib
import importlib
import importlib.util
import inspect
import json
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags
from ml_collections.config_flags import config_path

from retroguide_jax import configs
from retroguide_jax.errors import UserError
from retroguide_jax.text import find_nearest

_OVERRIDE = re.compile(r"--config\.(?P<field>[^=]+)(=(?P<value>.*))?", re.DOTALL)
_NEGATIVE_NUMBER = re.compile(r"-[\d.]")
_SCALARS = (bool, int, float, str, type(None))
# Older names of fields, in stored configs and config files: old -> new.
_RENAMED = {"train.eval_every": "eval.every", "train.best_metric": "eval.best_metric"}
# Errors that a mistake in a config file raises. Any other error is shown with its traceback.
_SLIPS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    SyntaxError,
    TypeError,
    ValueError,
)


def list_packaged_configs() -> list[str]:
    """Returns the names that `--config=NAME` knows, sorted."""
    modules = pkgutil.iter_modules(configs.__path__)
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates the `--config.field` arguments of a command line from the others.

    Args:
      argv: command-line arguments. An override is `--config.a.b=c`, or `--config.a.b c`, or for a
        boolean just `--config.a.b`, which means true.

    Returns:
      (overrides, rest): the overrides as `--config.a.b=c`, and all other arguments in order.
    """
    overrides: list[str] = []
    rest: list[str] = []
    arguments = list(argv)
    while arguments:
        argument = arguments.pop(0)
        match = _OVERRIDE.fullmatch(argument)
        if match is None:
            rest.append(argument)
        elif match["value"] is not None:
            overrides.append(argument)
        elif arguments and (
            not arguments[0].startswith("-") or _NEGATIVE_NUMBER.match(arguments[0])
        ):
            overrides.append(f"{argument}={arguments.pop(0)}")
        else:
            overrides.append(f"{argument}=true")
    return overrides, rest


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads a config and applies overrides to it, each cast to its field's type.

    Args:
      spec: a packaged name ("city"), a name with an argument for `get_config` ("city:arg"), or the
        path of a Python file, with or without an argument ("my/city.py:arg").
      overrides: overrides of the form "--config.a.b=c", applied in order.

    Returns:
      The resolved config, locked: fields can be changed but not added.

    Raises:
      UserError: no such config, a mistake in the config file, no such field, or a value that does
        not fit the field's type.
    """
    config = _call_get_config(spec)
    for old, new in _rename_fields(config):
        print(f"warning: config {spec}: {old} is now {new}; rename it", file=sys.stderr)
    for field, value in _iterate_fields(config):
        _check_leaf(f"config {spec}: {field}", value)
    for override in overrides:
        _apply_override(config, override)
    try:
        # Resolve after the overrides, so that a field defined by another one follows it.
        config = config.copy_and_resolve_references()
    except config_dict.RequiredValueError as error:
        raise UserError(f"config {spec}: {error}; set it with --config.FIELD=VALUE") from error
    return config.lock()


def config_to_json(config: ConfigDict) -> str:
    """Returns the config as indented JSON with sorted keys; tuples are written as arrays."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def config_from_json(text: str) -> ConfigDict:
    """Inverse of `config_to_json`: arrays come back as tuples, the config comes back locked.

    Raises:
      UserError: the text is not a JSON object.
    """
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"the stored config is not JSON ({error}); the file is damaged") from error
    if not isinstance(tree, dict):
        raise UserError("the stored config is not a JSON object; the file is damaged")
    return ConfigDict(_restore_tuples(tree)).lock()


def complete_config(config: ConfigDict) -> ConfigDict:
    """Completes the config of an older run with the fields added since, at their defaults.

    The default of a new field is the behaviour from before the field existed; a renamed field keeps
    its value.
    """
    defaults, values = _call_get_config("default").to_dict(), config.to_dict()
    _rename_fields(values)
    return ConfigDict(_merge(defaults, values)).lock()


def _rename_fields(values: Any) -> list[tuple[str, str]]:
    """Moves values from older field names, in a config or its dictionary; lists (old, new)."""
    moved = []
    for old, new in _RENAMED.items():
        section, _, name = old.partition(".")
        if name in values.get(section, {}):
            section_now, _, name_now = new.partition(".")
            if section_now not in values:
                values[section_now] = {}
            values[section_now][name_now] = values[section][name]
            del values[section][name]
            moved.append((old, new))
    train = values.get("train", {})
    if "ema_halflife_images" in train:  # one half-life for both averages, counted in images
        images = train["ema_halflife_images"]
        train["ema_halflife_generator"] = images / train["adversarial_batch_size"]
        train["ema_halflife_guide"] = images / train["batch_size"]
        del train["ema_halflife_images"]
        moved.append(("train.ema_halflife_images", "train.ema_halflife_generator and _guide"))
    return moved


def _merge(defaults: Any, values: Any) -> Any:
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return values
    return defaults | {name: _merge(defaults.get(name), value) for name, value in values.items()}


def _restore_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _restore_tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_restore_tuples(item) for item in value)
    return value


def _call_get_config(spec: str) -> ConfigDict:
    """Finds and calls `get_config` and checks what it returns."""
    location, _, argument = spec.partition(":")
    is_file = location.endswith(".py") or os.sep in location
    load_module = _load_file if is_file else _load_packaged
    module = _catch_slips(location, load_module, location)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UserError(f"config {location} has no function get_config(); define one")
    arguments = [argument] if argument else []
    try:
        inspect.signature(get_config).bind(*arguments)
    except TypeError as error:
        wanted = "takes no argument" if argument else f"needs an argument ({location}:ARG)"
        raise UserError(f"config {location} {wanted}: --config={spec}") from error
    config = _catch_slips(location, get_config, *arguments)
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"config {location}: get_config() returned {type(config).__name__}, not a ConfigDict"
        )
    return config


def _load_packaged(name: str) -> Any:
    names = list_packaged_configs()
    if name not in names:
        raise UserError(
            f"--config={name}: no packaged config of that name;{_suggest(name, names)} "
            f"there are {', '.join(names) or 'none'}; a file is given by its path, ending in .py"
        )
    return importlib.import_module(f"{configs.__name__}.{name}")


def _load_file(path: str) -> Any:
    if not path.endswith(".py"):
        raise UserError(f"--config={path}: a config file's name ends in .py")
    if not os.path.isfile(path):
        known = ", ".join(list_packaged_configs())
        raise UserError(f"--config={path}: no such file; packaged configs, by name: {known}")
    module_spec = importlib.util.spec_from_file_location("retroguide_user_config", path)
    assert module_spec is not None and module_spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def _catch_slips(location: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Calls `call`; turns an error of a config file into one line with file, line and cause."""
    try:
        return call(*arguments)
    except _SLIPS as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where, line, cause = frame.filename, frame.lineno, str(error)
        if isinstance(error, SyntaxError):
            where, line, cause = error.filename, error.lineno, error.msg
        raise UserError(
            f"config {location}: {type(error).__name__}: {cause} ({where}, line {line})"
        ) from error


def _iterate_fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ("a.b", value) for each leaf; fields that are required but not yet set are None."""
    for key, value in config.items(preserve_field_references=True):
        if isinstance(value, config_dict.FieldReference):
            value = None if value.empty() else value.get()
        if isinstance(value, ConfigDict):
            yield from _iterate_fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_leaf(name: str, value: Any) -> None:
    if isinstance(value, tuple):
        for item in value:
            _check_leaf(name, item)
    elif isinstance(value, list):
        raise UserError(f"{name} is a list; write it as a tuple")
    elif not isinstance(value, _SCALARS):
        raise UserError(
            f"{name} is {type(value).__name__}; use numbers, strings, booleans, None or tuples"
        )


def _apply_override(config: ConfigDict, override: str) -> None:
    """Sets one field in place from "--config.a.b=c"."""
    match = _OVERRIDE.fullmatch(override)
    if match is None or match["value"] is None:
        raise UserError(f"{override}: an override is written --config.FIELD=VALUE")
    field, text = match["field"], match["value"]
    flag = f"--config.{field}"
    if field in _RENAMED:
        raise UserError(f"{flag} is now called --config.{_RENAMED[field]}")
    fields = dict(_iterate_fields(config))
    if field not in fields:
        inside = [name for name in fields if name.startswith(f"{field}.")]
        if inside:
            raise UserError(f"{flag} is a section; set one of its fields: {', '.join(inside)}")
        raise UserError(f"{flag}: no such field;{_suggest_field(field, list(fields))}")

    before = fields[field]
    kind = config_path.get_type(field, config)
    if kind is type(None):
        raise UserError(
            f"{flag}: None gives this field no type to read {text!r} as; "
            "declare it in the config file as config_dict.placeholder(TYPE)"
        )
    # A separate registry, because other libraries define flags in absl's global one.
    flag_values = flags.FlagValues()
    argv = ["retroguide", f"{flag}={text}"]
    try:
        holder = config_flags.DEFINE_config_dict(
            "config", config, flag_values=flag_values, sys_argv=argv
        )
        flag_values(argv)
        after = dict(_iterate_fields(holder.value))[field]
    except (flags.Error, TypeError, ValueError) as error:
        raise _explain_type(flag, text, kind, before) from error
    if isinstance(before, tuple):
        # A tuple named *_size is (height, width): `64` must not become (64,).
        is_short = field.endswith("_size") and len(after) != len(before)
        if is_short or not _has_item_types(after, before):
            raise _explain_type(flag, text, kind, before)


def _has_item_types(value: tuple, example: tuple) -> bool:
    """Whether all items have the type that the example's items share, if any; int fits float."""
    kinds = {type(item) for item in example}
    if len(kinds) != 1:
        return True
    (kind,) = kinds
    allowed = {kind, int} if kind is float else {kind}
    return all(type(item) in allowed for item in value)


def _explain_type(flag: str, text: str, kind: type, before: Any) -> UserError:
    article = "an" if kind.__name__[0] in "aeiou" else "a"
    expected = f"{article} {kind.__name__}"
    if before is not None:
        # Print booleans as the command line takes them: true, not True.
        expected += f" such as {json.dumps(before) if kind is bool else repr(before)}"
    return UserError(f"{flag}: expected {expected}, got {text!r}")


def _suggest(name: str, names: Sequence[str]) -> str:
    nearest = find_nearest(name, names)
    return f" did you mean {nearest}?" if nearest else ""


def _suggest_field(field: str, fields: Sequence[str]) -> str:
    """Suggests the field with the nearest last name, same section first; else lists the section.

    Full paths are compared only among fields with the same last name: a long shared prefix would
    make any neighbour look near.
    """
    section, _, last = field.rpartition(".")
    by_last: dict[str, list[str]] = {}
    for name in fields:
        by_last.setdefault(name.rpartition(".")[2], []).append(name)
    siblings = [key for key, names in by_last.items() if _join(section, key) in names]
    exact = last if last in by_last else ""
    nearest = exact or find_nearest(last, siblings) or find_nearest(last, by_last)
    if nearest:
        (best,) = difflib.get_close_matches(field, by_last[nearest], n=1, cutoff=0.0)
        return f" did you mean --config.{best}?"
    while section and not any(name.startswith(f"{section}.") for name in fields):
        section = section.rpartition(".")[0]
    inside = [name for name in fields if name.startswith(_join(section, ""))]
    children = sorted({name[len(_join(section, "")) :].partition(".")[0] for name in inside})
    return f" {_join('--config', section) if section else 'the config'} has {', '.join(children)}"


def _join(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name
