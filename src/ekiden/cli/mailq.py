"""``mailq``: the queue, as postqueue(1) -p shows it; with -j, one JSON object a message."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ekiden.cli.getopt import BadOption, getopt
from ekiden.cli.trouble import CommandTrouble, complain


def main(arguments: Sequence[str] | None = None) -> int:
    """Sendmail's options that mailq has always taken (``-v``, ``-bp``) mean nothing here."""
    from ekiden.cli.postqueue import list_queue

    words = ["-j" if word == "--json" else word for word in (sys.argv[1:] if arguments is None else arguments)]
    try:
        options, others = getopt(words, "C:c:b:jpv")
        if others:
            raise CommandTrouble(os.EX_USAGE, "display queue mode requires no recipient")
        chosen = dict(options)
        config = chosen.get("c") or chosen.get("C")
        return list_queue(config, as_json="j" in chosen, program="mailq")
    except BadOption as error:
        complain("mailq", f"fatal: {error}")
        return os.EX_USAGE
    except CommandTrouble as trouble:
        complain("mailq", f"fatal: {trouble}")
        return trouble.code


if __name__ == "__main__":
    sys.exit(main())
