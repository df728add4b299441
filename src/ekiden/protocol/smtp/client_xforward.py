"""XFORWARD, said to a content filter: which client a message came from (Postfix's XFORWARD page)."""

from __future__ import annotations

from ekiden.message.envelope import Client
from ekiden.protocol.smtp.client_parameters import xtext

_UNAVAILABLE = b"[UNAVAILABLE]"
_LONGEST_VALUE = 255
_LONGEST_COMMAND = 512


def xforward(client: Client, queue_id: str, offered: str) -> tuple[bytes, ...]:
    """The commands, for a server that offers XFORWARD with these attributes; none where nothing is to be said."""
    wanted = offered.upper().split()
    address = f"IPV6:{client.address}" if client.is_ipv6 else client.address
    is_local = client.protocol == "local"
    facts = {
        "NAME": client.name,
        "ADDR": address,
        "PORT": str(client.port) if client.port and not is_local else "",
        "PROTO": "" if is_local else client.protocol,
        "HELO": client.helo,
        "IDENT": queue_id,
        "SOURCE": "LOCAL" if is_local else "REMOTE",
    }
    commands: list[bytes] = []
    line = b""
    for name, value in facts.items():
        if name not in wanted:
            continue
        text = xtext(value)[:_LONGEST_VALUE] if value and value != "unknown" else _UNAVAILABLE
        word = b" %b=%b" % (name.encode("ascii"), text)
        if line and len(b"XFORWARD" + line + word) + 2 > _LONGEST_COMMAND:
            commands.append(b"XFORWARD" + line + b"\r\n")
            line = b""
        line += word
    if line:
        commands.append(b"XFORWARD" + line + b"\r\n")
    return tuple(commands)
