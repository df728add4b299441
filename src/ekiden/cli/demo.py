"""``make run``: a complete server in the foreground, everything below one directory, with one demo mailbox."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PORT = 2525
_MASTER_CF = f"""\
# service             type  private unpriv  chroot  wakeup  maxproc command
127.0.0.1:{PORT}        inet  n       -       n       -       -       smtpd
"""


def _main_cf(base: Path) -> str:
    uid, gid = os.geteuid(), os.getegid()
    lines = [
        "# Written by `make run`. Change it as you like: it is not overwritten.",
        "myhostname = demo.example",
        "mydestination =",
        "maillog_file = /dev/stdout",
        f"queue_directory = {base / 'queue'}",
        "virtual_mailbox_domains = demo.example",
        "virtual_mailbox_maps = inline:{ demo@demo.example=demo/ }",
        f"virtual_mailbox_base = {base / 'mailboxes'}",
    ]
    if uid == 0:
        # Started as root the workers and the mailbox belong to somebody who may do nothing else.
        lines += ["mail_owner = nobody", "virtual_uid_maps = static:65534", "virtual_gid_maps = static:65534"]
    else:
        lines += [f"virtual_uid_maps = static:{uid}", f"virtual_gid_maps = static:{gid}", "virtual_minimum_uid = 1"]
    return "\n".join(lines) + "\n"


def main() -> int:
    base = Path(sys.argv[1] if len(sys.argv) > 1 else "var").resolve()
    directory = base / "etc"
    mailboxes = base / "mailboxes"
    directory.mkdir(parents=True, exist_ok=True)
    mailboxes.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        os.chown(mailboxes, 65534, 65534)
    for name, text in (("main.cf", _main_cf(base)), ("master.cf", _MASTER_CF)):
        if not (directory / name).exists():
            (directory / name).write_text(text)
    print(
        f"Ekiden serves SMTP on 127.0.0.1:{PORT}. Paste this into another terminal to send a message:\n\n"
        f"  python3 -c \"import smtplib; smtplib.SMTP('127.0.0.1', {PORT}).sendmail("
        "'you@demo.example', 'demo@demo.example', 'Subject: Hello\\n\\nThe relay runs.\\n')\"\n\n"
        f"It will lie in {mailboxes / 'demo' / 'new'}. Ctrl-C stops the server.\n",
        flush=True,
    )
    from ekiden.cli.main import main as ekiden

    return ekiden(["serve", "-c", str(directory)])


if __name__ == "__main__":
    sys.exit(main())
