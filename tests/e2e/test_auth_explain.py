"""``ekiden auth explain QUEUEID`` knows from the queue where a message came from, whether the server runs or not."""

from __future__ import annotations

import json
import smtplib

from support.running import free_port, running_server, wait_for


def test_a_message_in_the_queue() -> None:
    silent = f"127.0.0.1:{free_port()}"  # nobody answers there
    with running_server(main_cf={"relayhost": f"[127.0.0.1]:{free_port()}", "dns_resolvers": silent}) as server:
        with smtplib.SMTP("127.0.0.1", server.port, local_hostname="h.test") as client:
            client.sendmail("a@b.example", ["c@d.example"], "From: a@b.example\r\nSubject: x\r\n\r\nx\r\n")

        def queue() -> list[dict[str, str]]:
            lines = server.command("queue", "list", "--json").stdout.splitlines()
            return [entry for entry in map(json.loads, lines) if entry["queue_name"] == "deferred"]

        wait_for(queue, "a deferred message")
        (entry,) = queue()
        running = server.command("auth", "explain", entry["queue_id"], "--json")
        server.stop()
        stopped = server.command("auth", "explain", entry["queue_id"], "--json")
    assert running.returncode == stopped.returncode == 0, running.stderr
    assert running.stdout == stopped.stdout
    found = {step["check"]: step for step in map(json.loads, running.stdout.splitlines())}
    assert found["message"]["details"] == {
        "client": "127.0.0.1 (HELO h.test), from the queue",
        "sender": "<a@b.example>, from the queue",
    }
    assert (found["spf"]["result"], found["dkim"]["result"]) == ("temperror", "none")
