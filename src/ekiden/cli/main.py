"""``ekiden``: one command for everything; docs/commands.md has its manual.

Subcommands are imported when they are called, so that each starts fast.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from ekiden.cli import classic
from ekiden.cli.trouble import CommandTrouble


def main(arguments: Sequence[str] | None = None) -> int:
    if arguments is None:
        arguments = sys.argv[1:]
        if (called := classic.called_as(sys.argv[0])) is not None:
            return classic.run(called, arguments)
    # The classic commands read their own options, which argparse would take for its own.
    if arguments and arguments[0] in classic.COMMANDS:
        return classic.run(arguments[0], arguments[1:])
    from ekiden.cli.arguments import parser

    options = parser().parse_args(arguments)
    try:
        module, _, function = options.run.partition(":")
        code: int = getattr(importlib.import_module(module), function)(options)
        sys.stdout.flush()
        return code
    except CommandTrouble as trouble:
        print(f"ekiden: {trouble}", file=sys.stderr)
        return trouble.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_OK
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
