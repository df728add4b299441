"""The configurations of docs/recipes.md do what the page says they do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from support.filter_proxy import MARK, filter_proxy
from support.honours import honours
from support.recipes import recipe
from support.running import RunningServer, free_port, running_server, wait_for
from support.smtp_sink import SmtpSink, smtp_sink
from support.smtp_socket import SmtpSocket


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with smtp_sink() as running:
        yield running


def send(server: RunningServer, recipient: str, answer: str = "250 2.0.0") -> None:
    with SmtpSocket(server.port) as client:
        client.greet()
        assert client.mail("ann@here.example", recipient).startswith(answer)
        client.say("QUIT")


def test_mail_inside_the_company_only(sink: SmtpSink) -> None:
    parameters, _ = recipe("Mail inside the company only", _192_168_1_10=sink.relayhost)
    with running_server(main_cf=parameters) as server:
        send(server, "joe@office.example")
        send(server, "joe@elsewhere.example", "550 5.7.1")
        send(server, "joe@[127.0.0.9]", "550 5.7.1")
        sink.messages(1)


@honours("defer_transports")
def test_mail_to_the_outside_at_night(sink: SmtpSink) -> None:
    parameters, _ = recipe("Mail to the outside at night", _192_168_1_10=sink.relayhost)
    with running_server(main_cf={**parameters, "relayhost": sink.relayhost}) as server:
        send(server, "joe@office.example")
        for number in range(4):  # to more than one worker, in all likelihood
            send(server, f"joe{number}@elsewhere.example")
        wait_for(lambda: server.log.count("status=deferred (deferred transport)") == 4, f"waiting mail:\n{server.log}")
        sink.messages(1)
        assert server.command("flush").returncode == 0
        sink.messages(5)


def test_a_receiver_that_counts(sink: SmtpSink) -> None:
    parameters, services = recipe("A line that is slow, or a receiver that counts", _192_168_1_10=sink.relayhost)
    parameters["slow_destination_rate_delay"] = "1s"
    main_cf = {**parameters, "relayhost": sink.relayhost}
    with running_server(main_cf=main_cf, master_cf=services) as server:
        for number in range(3):
            send(server, f"joe{number}@picky.example")
        send(server, "joe@other.example")
        found = {facts["X-Rcpt-Args"][0]: facts for facts in (message.facts for message in sink.messages(4))}
        assert len(found) == 4
        assert found["<joe@other.example>"]["X-Helo-Args"] == ["mx.test"]
        assert found["<joe1@picky.example>"]["X-Helo-Args"] == ["slow.example.com"]
        times = sink.times(b"@picky.example>")
        assert all(later - earlier > 0.9 for earlier, later in pairwise(times))


@honours("content_filter")
def test_a_content_filter(sink: SmtpSink) -> None:
    back = free_port()
    with filter_proxy(back) as proxy:
        parameters, services = recipe("A content filter")
        parameters["content_filter"] = parameters["content_filter"].replace("10024", str(proxy.port))
        services = [line.replace("127.0.0.1:10025", f"127.0.0.1:{back}") for line in services]
        with running_server(main_cf={**parameters, "relayhost": sink.relayhost}, master_cf=services) as server:
            send(server, "joe@other.example")
            (message,) = sink.messages(1)
            assert message.facts["X-Rcpt-Args"] == ["<joe@other.example>"]
            assert message.content.count(MARK.replace(b"\r\n", b"\n")) == 1
            ((sender, recipients, _),) = proxy.seen
            assert (sender, recipients) == ("ann@here.example", ["joe@other.example"])
            server.wait_for_log(f"relay=127.0.0.1[127.0.0.1]:{proxy.port}")


def test_the_other_recipes_are_good_configurations() -> None:
    for title in ("A busy host",):
        parameters, services = recipe(title)
        assert parameters
        with running_server(main_cf=parameters, master_cf=services, start=False) as server:
            checked = server.command("check")
            assert checked.returncode == 0, checked.stdout + checked.stderr
            assert not [line for line in checked.stdout.splitlines() if "main.cf" in line], checked.stdout
