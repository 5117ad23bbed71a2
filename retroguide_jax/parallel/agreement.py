"""Start-up check that all processes match: those that differ would hang later or mix two runs."""

import collections
import json
import platform
import socket
from collections.abc import Mapping, Sequence

from retroguide_jax import __version__
from retroguide_jax.errors import UserError
from retroguide_jax.parallel import service

_WAIT_SECONDS = 600.0
_MOST_NAMED = 8


def check_agreement(facts: Mapping[str, str]) -> None:
    """Compares facts over all processes; each must call it, before the first collective.

    Args:
      facts: facts that must be the same on all processes, name -> value. The versions of Python,
        JAX, Flax and this package, and the number of local devices are added.

    Raises:
      UserError: on every process, if a fact differs; the message names the fact, the most frequent
        value and the processes that have another one. Also if a process does not call this within
        ten minutes.
    """
    if not service.is_joined():
        return
    own = {"host": socket.gethostname(), "facts": _describe_process() | dict(facts)}
    try:
        difference = service.combine("facts", json.dumps(own), _compare, _WAIT_SECONDS)
    except TimeoutError as error:
        raise UserError(
            f"{error} has not come to the check at the start within {_WAIT_SECONDS:.0f} s; look at "
            "what it printed, and start all processes again"
        ) from error
    if difference:
        raise UserError(difference)


def _describe_process() -> dict[str, str]:
    import flax
    import jax
    import jaxlib

    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,  # pyright: ignore[reportPrivateImportUsage]
        "flax": flax.__version__,
        "retroguide_jax": __version__,
        "local devices": str(jax.local_device_count()),
    }


def _compare(values: list[str]) -> str:
    processes = [json.loads(value) for value in values]
    return find_differences(
        [process["host"] for process in processes], [process["facts"] for process in processes]
    )


def find_differences(hosts: Sequence[str], facts: Sequence[Mapping[str, str]]) -> str:
    """Describes in one line the facts that differ between processes; "" if none does.

    Args:
      hosts: host name of each process.
      facts: facts of each process.
    """
    names = dict.fromkeys(name for own in facts for name in own)
    found = [text for name in names if (text := _describe_odd(name, hosts, facts))]
    if not found:
        return ""
    return (
        f"the processes of this job are not alike: {'; '.join(found)}; start all of them in the "
        "same environment, by the same command, on the same data"
    )


def _describe_odd(name: str, hosts: Sequence[str], facts: Sequence[Mapping[str, str]]) -> str:
    values = [own.get(name, "nothing") for own in facts]
    # `most_common` breaks ties by first occurrence, so process 0's value wins.
    usual = collections.Counter(values).most_common(1)[0][0]
    odd = [
        f"process {index} (host {hosts[index]}) has {value}"
        for index, value in enumerate(values)
        if value != usual
    ]
    if not odd:
        return ""
    more = f" and {len(odd) - _MOST_NAMED} more" if len(odd) > _MOST_NAMED else ""
    return f"{name} is {usual}, but {', '.join(odd[:_MOST_NAMED])}{more}"
