"""``sendmail``: submission by the programs of this host, with the options that they have used since ever (sendmail(1)).

The message goes to the maildrop; a server that runs takes it at once, one that does not takes it when it starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ekiden.cli.sendmail_options import Mode, Options, UsageError
from ekiden.cli.trouble import CommandTrouble, complain

if TYPE_CHECKING:
    from ekiden.config.snapshot import Parameters

_READ_BYTES = 65536


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: of sysexits.h, so that who calls knows what to try again."""
    try:
        options = Options(sys.argv[1:] if arguments is None else arguments)
        for warning in options.warnings:
            complain("sendmail", f"warning: {warning}")
        return _run(options)
    except UsageError as error:
        complain("sendmail", f"fatal: {error}")
        return os.EX_USAGE
    except CommandTrouble as trouble:
        complain("sendmail", f"fatal: {trouble}")
        return trouble.code
    except OSError as error:
        complain("sendmail", f"fatal: the message was not taken: {error}")
        return os.EX_TEMPFAIL


def _run(options: Options) -> int:
    config = ["-c", options.config] if options.config else []
    match options.mode:
        case Mode.DELIVER:
            return _deliver(options, sys.stdin.buffer)
        case Mode.SMTP:
            return _smtp(options)
        case Mode.LIST:
            from ekiden.cli.mailq import main as mailq

            return mailq(config)
        case Mode.FLUSH:
            from ekiden.cli.postqueue import main as postqueue

            return postqueue([*options.flush, *config])
        case Mode.ALIASES:
            from ekiden.cli.classic import run

            database = [f"-oA{options.alias_database}"] if options.alias_database else []
            return run("newaliases", [*config, *database, *options.recipients])
        case Mode.DAEMON:
            from ekiden.cli.postfix import start_unless_running

            return start_unless_running(options.config)
        case Mode.NOTHING:
            return os.EX_OK


def _parameters(options: Options) -> Parameters:
    """Raises CommandTrouble when the user may not submit."""
    from ekiden.config.directory import find_directory
    from ekiden.config.load import load
    from ekiden.policy.user_access import EVERYBODY

    parameters = load(find_directory(options.config, os.environ)).parameters
    words = parameters.authorized_submit_users
    if words != EVERYBODY:
        import asyncio

        from ekiden.policy.user_access import refused_user

        # What the server would find only after the command has said yes.
        if (name := asyncio.run(refused_user(words, os.getuid()))) is not None:
            raise CommandTrouble(os.EX_NOPERM, f"User {name}({os.getuid()}) is not allowed to submit mail")
    return parameters


def _smtp(options: Options) -> int:
    from ekiden.receive.standalone import StandaloneSession

    def write(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    # What is there is read: a dialogue must not wait for a full buffer.
    StandaloneSession(_parameters(options), write).run(lambda: os.read(sys.stdin.fileno(), _READ_BYTES))
    return os.EX_OK


def _deliver(options: Options, standard_input: BinaryIO) -> int:
    from ekiden.cli import submission
    from ekiden.message.envelope import Ret
    from ekiden.receive.maildrop import Drop, knock, leave

    parameters = _parameters(options)
    spool = Path(parameters.queue_directory)
    try:
        sender = _sender(options)
        content = submission.lines(
            standard_input, dot_ends=options.dot_ends, line_ends=parameters.sendmail_fix_line_endings
        )
        recipients = submission.checked(options.recipients)
        if options.from_header:
            header, rest = submission.header_of(content)
            recipients += submission.header_recipients(header, parameters.extract_recipient_limit)
            content = _chain(submission.without_hidden(header) + rest, content)
        if not recipients:
            raise UsageError(_no_recipients(options))
        ret = Ret(options.ret) if options.ret else None
        drop = Drop(
            tuple(recipients), sender, options.full_name, options.body_8bit, options.notify, ret, options.envelope_id
        )
        leave(spool, drop, submission.limited(content, parameters.message_size_limit))
    except submission.TooLarge as error:
        raise CommandTrouble(os.EX_UNAVAILABLE, f"{_who()}: {error}") from error
    except submission.Refused as error:
        raise CommandTrouble(os.EX_DATAERR, f"{_who()}: {error}") from error
    knock(spool)
    return os.EX_OK


def _sender(options: Options) -> str | None:
    """The sender as the maildrop wants it: None for who runs the command, "" for the null sender."""
    if options.sender is None:
        return None
    if options.sender.strip() in ("", "<>"):
        return ""
    from ekiden.cli import submission

    if len(found := submission.checked([options.sender])) != 1:
        raise UsageError(f"-f option specified malformed sender: {options.sender}")
    return found[0]


def _no_recipients(options: Options) -> str:
    if options.from_header:
        return f"{_who()}: No recipient addresses found in message header"
    return f"{_who()}: Recipient addresses must be specified on the command line or via the -t option"


def _who() -> str:
    from ekiden.policy.user_access import user_name

    return f"{user_name(os.getuid())}({os.getuid()})"


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


if __name__ == "__main__":
    sys.exit(main())
