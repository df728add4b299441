"""``ekiden why QUEUEID`` tells of a message that waits: why, until when, and where it would go now."""

from __future__ import annotations

import json
import smtplib

import pytest

from support.running import RunningServer, free_port, running_server, wait_for


def explained(server: RunningServer, queue_id: str) -> list[dict[str, str]]:
    done = server.command("why", queue_id, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("stop", [False, True], ids=["while the server runs", "from the disk"])
def test_a_message_that_waits(stop: bool) -> None:
    port = free_port()
    with running_server(main_cf={"relayhost": f"[127.0.0.1]:{port}"}) as server:
        with smtplib.SMTP("127.0.0.1", server.port) as client:
            client.sendmail("a@b.example", ["c@d.example"], "Subject: x\r\n\r\n")

        def queue() -> list[dict[str, str]]:
            lines = server.command("queue", "list", "--json").stdout.splitlines()
            return [entry for entry in map(json.loads, lines) if entry["queue_name"] == "deferred"]

        wait_for(queue, "a deferred message")
        (entry,) = queue()
        if stop:
            server.stop()
        found = {step["kind"]: step for step in explained(server, entry["queue_id"])}
    assert "Connection refused" in found["last"]["text"]
    assert found["route"]["text"] == f"transport smtp, next hop [127.0.0.1]:{port}"
    assert found["route"]["setting"] == "relayhost"
    assert found["host"]["text"] == f"1. 127.0.0.1[127.0.0.1]:{port}"
    assert found["last"]["recipient"] == "c@d.example"


def test_its_times_and_settings() -> None:
    with running_server(main_cf={"relayhost": f"[127.0.0.1]:{free_port()}"}) as server:
        with smtplib.SMTP("127.0.0.1", server.port) as client:
            client.sendmail("a@b.example", ["c@d.example"], "Subject: x\r\n\r\n")
        server.wait_for_log("status=deferred")
        (entry,) = map(json.loads, server.command("queue", "list", "--json").stdout.splitlines())

        def times() -> list[str]:
            return [step["setting"] for step in explained(server, entry["queue_id"]) if step["kind"] == "queue"]

        wait_for(lambda: "minimal_backoff_time" in times(), "a due time")
        assert "maximal_queue_lifetime" in times()
        assert server.command("why", "4jXkKq6l5Kz0").returncode != 0
