"""``mailq``: the queue, as postqueue(1) -p shows it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from ekiden.cli.trouble import CommandTrouble


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="mailq", description="List the mail queue.")
    parser.add_argument("-c", metavar="DIR", dest="config", help="the configuration directory")
    parser.add_argument("--json", "-j", action="store_true", help="one JSON object a message")
    # sendmail's options that mailq has always taken and that mean nothing here.
    parser.add_argument("-v", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-bp", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        return list_queue(options.config, as_json=options.json)
    except CommandTrouble as trouble:
        print(f"mailq: {trouble}", file=sys.stderr)
        return trouble.code


def list_queue(config: str | None, *, as_json: bool) -> int:
    """Print the whole queue. Raises CommandTrouble."""
    from ekiden.cli import queue_access
    from ekiden.cli.queue_listing import json_line, postfix_listing
    from ekiden.runtime.requests import Filter

    messages = queue_access.messages(queue_access.configuration(config), Filter())
    print_lines(map(json_line, messages) if as_json else postfix_listing(messages))
    return 0


def print_lines(lines: Iterable[str]) -> None:
    """To standard output; a reader that has seen enough (``| head``) is no error."""
    try:
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What the interpreter would flush at its exit has nowhere to go either.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
