"""Writes docs/settings.md, the reference of all parameters, from their declarations.

python -m ekiden.config.reference docs/settings.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ekiden.config.registry import Group, Parameter, Reload
from ekiden.config.snapshot import Parameters

_HEAD = """\
# Parameters

Every parameter of `main.cf` that Ekiden honours. This page is generated from the declarations in
`src/ekiden/config/parameters/` (`python -m ekiden.config.reference docs/settings.md`); do not edit it.

A value may refer to other parameters (`$name`). A time takes one of the units s, m, h, d, w. A list is separated by
commas or white space. What a changed value needs to take effect is said where it is more than a reload.
[configuration.md](configuration.md) has the format of the files.
"""


def reference() -> str:
    """The whole page."""
    return _HEAD + "".join(_group(group) for group in Parameters.__bases__ if issubclass(group, Group))


def _group(group: type[Group]) -> str:
    module = sys.modules[group.__module__]
    subject = (module.__doc__ or group.__name__).strip().split("\n")[0].rstrip(".")
    return f"\n## {subject}\n" + "".join(_entry(parameter) for parameter in group.declared().values())


def _entry(parameter: Parameter[object]) -> str:
    facts = ", ".join(_facts(parameter))
    default = f"`{parameter.default}`" if parameter.default else "empty"
    return f"\n### {parameter.name}\n\nDefault: {default} ({facts})\n\n{parameter.doc}\n"


def _facts(parameter: Parameter[object]) -> Iterator[str]:
    yield parameter.kind
    minimum, maximum = getattr(parameter, "minimum", 0), getattr(parameter, "maximum", None)
    if minimum and maximum is not None:
        yield f"{minimum} to {maximum}"
    elif minimum:
        yield f"at least {minimum}"
    elif maximum is not None:
        yield f"at most {maximum}"
    if parameter.reload is not Reload.NEW_SESSIONS:
        yield f"changes {parameter.reload.value}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), "utf-8")
