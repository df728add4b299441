"""python -m ekiden.auth.dmarc.public_suffix_build LIST: make our data file of the public suffix list as published.

The rules stay what they are; comments go, but for the licence and the version, and names become A-labels.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ekiden.auth.dmarc.public_suffix import DATA
from ekiden.dns.name import dns_name

_NOTICE = """\
# This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0. If a copy of the MPL was not
# distributed with this file, You can obtain one at https://mozilla.org/MPL/2.0/.
# Made from https://publicsuffix.org/list/public_suffix_list.dat{version}: the same rules in A-labels, sorted.
"""
_VERSION = "// VERSION: "


def compact(published: str) -> str:
    """The text of the data file. Raises ValueError for a rule that is no domain name."""
    rules: set[str] = set()
    version = ""
    for line in published.splitlines():
        if line.startswith(_VERSION):
            version = f" of {line.removeprefix(_VERSION).strip()}"
        rule = line.split(maxsplit=1)[0] if line.strip() else ""
        if rule and not rule.startswith("//"):
            rules.add(_in_a_labels(rule))
    return _NOTICE.format(version=version) + "".join(f"{rule}\n" for rule in sorted(rules))


def _in_a_labels(rule: str) -> str:
    prefix = "!" if rule.startswith("!") else "*." if rule.startswith("*.") else ""
    name = dns_name(rule.removeprefix(prefix))
    if not name:
        raise ValueError(f"not a rule: {rule!r}")
    return prefix + name


def main(arguments: list[str]) -> int:
    (published,) = arguments
    DATA.write_text(compact(Path(published).read_text("utf-8")), "ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
