"""Names of a package that are imported when they are first used (PEP 562)."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def make_lazy(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package.

    Args:
      package: its `__name__`.
      names: public name -> "module" or "module:attribute", the module relative to the package.
    """

    def get(name: str) -> Any:
        if name not in names:
            # Python itself suggests the nearest name of `dir(obj)`.
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}",
                name=name,
                obj=importlib.import_module(package),
            )
        module, _, attribute = names[name].partition(":")
        found = importlib.import_module(f"{package}.{module}")
        return getattr(found, attribute) if attribute else found

    return get, lambda: sorted(names)
