"""HOLDFOR (RFC 4865) and BY (RFC 2852) from a client to the end: what waits, who sends it on, who hears of it."""

from __future__ import annotations

import json
import smtplib

from support.recording_sink import recording_sink
from support.running import RunningServer, free_port, running_server, wait_for

MAIL = b"Subject: hello\r\nFrom: ann@one.example\r\n\r\nbody\r\n"


def send(server: RunningServer, *options: str, to: str = "bob@two.example") -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.ehlo("client.example")
        client.sendmail("ann@one.example", [to], MAIL, mail_options=options)


def queued(server: RunningServer) -> list[dict[str, object]]:
    done = server.command("queue", "list", "--json")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_held_message_waits_for_its_time_or_for_an_administrator() -> None:
    with recording_sink() as sink, running_server(main_cf={"relayhost": sink.next_hop}) as server:
        send(server, "HOLDFOR=3600")
        [message] = queued(server)
        assert message["queue_name"] == "incoming"
        assert str(message["state_reason"]).startswith("held until ")
        listing = server.command("mailq").stdout
        assert "(held until " in listing
        # A flush, a message without a wish, and a restart leave it where it is.
        assert server.command("queue", "flush").returncode == 0
        send(server, to="carl@two.example")
        [other] = sink.take(1)
        assert other.recipients == ("carl@two.example",)
        assert server.stop() == 0
        server.start()
        assert [each["queue_id"] for each in queued(server)] == [message["queue_id"]]
        done = server.command("queue", "release", str(message["queue_id"]))
        assert done.stdout == "1 message released\n", done
        [released] = sink.messages(1)
        assert released.recipients == ("bob@two.example",)
        wait_for(lambda: not queued(server), "an empty queue")


def test_a_held_message_goes_at_its_time() -> None:
    with recording_sink() as sink, running_server(main_cf={"relayhost": sink.next_hop}) as server:
        send(server, "HOLDFOR=2")
        assert queued(server)
        [message] = sink.messages(1)
        assert message.recipients == ("bob@two.example",)


def test_a_message_that_cannot_be_there_in_time_comes_back() -> None:
    with recording_sink() as sink:
        settings = {
            "default_transport": f"smtp:[127.0.0.1]:{free_port()}",
            "sender_dependent_default_transport_maps": f"inline:{{ <>=smtp:{sink.next_hop} }}",
            "minimal_backoff_time": "1h",
        }
        with running_server(main_cf=settings) as server:
            send(server, "BY=3;R")
            server.wait_for_log("status=deferred")
            [report] = sink.messages(1)
            assert report.recipients == ("ann@one.example",)
            assert b"\r\nStatus: 5.4.7\r\n" in report.content
            assert b"\r\nDeliver-By-Date: " in report.content
            send(server, "BY=2;N", to="carl@two.example")
            [_, late] = sink.messages(2)
            assert b"\r\nAction: delayed\r\n" in late.content
            assert [message["recipients"][0]["address"] for message in queued(server)] == ["carl@two.example"]  # type: ignore[index]
