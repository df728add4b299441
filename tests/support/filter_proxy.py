"""A content filter as people write them: takes a message by SMTP, marks it, and gives it back by SMTP."""

from __future__ import annotations

import contextlib
import smtplib
import socketserver
import threading
from collections.abc import Iterator

MARK = b"X-Filtered: yes\r\n"


class FilterProxy:
    """``seen``: sender, recipients and content of every message that passed."""

    def __init__(self, give_back_port: int) -> None:
        self.seen: list[tuple[str, list[str], bytes]] = []
        self._back = give_back_port
        proxy = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                proxy._converse(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Session)
        self.port: int = self.server.server_address[1]

    def _converse(self, session: socketserver.StreamRequestHandler) -> None:
        say = session.wfile.write
        say(b"220 filter.example ESMTP\r\n")
        sender, recipients = "", list[str]()
        while line := session.rfile.readline():
            verb = line[:4].upper()
            if verb == b"QUIT":
                say(b"221 2.0.0 Bye\r\n")
                return
            if verb == b"EHLO":
                say(b"250-filter.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                continue
            if verb == b"MAIL":
                sender, recipients = _path(line), []
            elif verb == b"RCPT":
                recipients.append(_path(line))
            elif verb == b"DATA":
                say(b"354 go\r\n")
                content = b"".join(iter(session.rfile.readline, b".\r\n"))
                self.seen.append((sender, recipients, content))
                with smtplib.SMTP("127.0.0.1", self._back, timeout=20) as back:
                    back.sendmail(sender, recipients, MARK + content.replace(b"\r\n..", b"\r\n."))
            say(b"250 2.0.0 Ok\r\n")


def _path(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode()


@contextlib.contextmanager
def filter_proxy(give_back_port: int) -> Iterator[FilterProxy]:
    proxy = FilterProxy(give_back_port)
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()
