"""Sends messages and prints what the server said to each, as JSON: ``python smtp_client.py PORT FILE``.

The file holds a list of [sender, [recipient, ...], content]; envelope addresses are sent as they stand there.
"""

from __future__ import annotations

import json
import smtplib
import sys
from pathlib import Path


def told(code: int, text: bytes) -> str:
    """The code and the enhanced status code of a reply."""
    first = text.decode("utf-8", "replace").split(" ", 1)[0]
    return f"{code} {first}" if first[:1].isdigit() and first.count(".") == 2 else str(code)


def send(client: smtplib.SMTP, sender: str, recipients: list[str], content: str) -> str:
    replies = [told(*client.docmd("MAIL", f"FROM:<{sender}>"))]
    if not replies[0].startswith("2"):
        return f"{sender}: {replies[0]}"
    answers = [told(*client.docmd("RCPT", f"TO:<{recipient}>")) for recipient in recipients]
    if any(answer.startswith("2") for answer in answers):
        replies.append(told(*client.data(content.replace("\n", "\r\n").encode("utf-8", "surrogateescape"))))
    else:
        client.docmd("RSET")
    told_to = ", ".join(f"{to} {answer}" for to, answer in zip(recipients, answers, strict=True))
    return f"{sender} -> {told_to}: {replies[-1]}"


def main() -> None:
    mails = json.loads(Path(sys.argv[2]).read_text())
    replies: list[str] = []
    for start in range(0, len(mails), 20):
        with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), local_hostname="client.example", timeout=60) as client:
            client.ehlo()
            replies += [send(client, *mail) for mail in mails[start : start + 20]]
    print(json.dumps(replies))


if __name__ == "__main__":
    main()
