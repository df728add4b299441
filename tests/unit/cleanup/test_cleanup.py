"""cleanup.cleanup: what becomes of envelopes and headers, by each parameter. Postfix says the same (test_rewriting)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from ekiden.cleanup.cleanup import Addressed, Arrival
from ekiden.cleanup.way import INTERNAL, HeaderSource, Way
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import ParameterError, Parameters
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import Notify, Recipient
from ekiden.message.reply import Refusal
from ekiden.protocol.smtp.path import parse_mailbox
from support.cleanup import cleanup_for
from support.honours import honours

HERE = {"myhostname": "mx.here.test", "mydomain": "here.test"}
LOCAL, REMOTE = Way(HeaderSource.LOCAL), Way(HeaderSource.REMOTE)
FULL = "From: a@b.test\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@x.test>\r\n"
WHOLE = "From: a@b.test\r\nTo: c@d.test\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@x.test>\r\n"


def address(text: str) -> Address:
    found = NULL_SENDER if not text else parse_mailbox(text, lenient=True)
    assert found is not None
    return found


def envelope(settings: dict[str, str], sender: str, recipients: Sequence[str], way: Way = LOCAL) -> Addressed | Refusal:
    cleanup = cleanup_for(Parameters({**HERE, **settings}), "local.test")
    return asyncio.run(cleanup.envelope(address(sender), [Recipient(address(text)) for text in recipients], way))


def addresses(settings: dict[str, str], sender: str, *recipients: str, way: Way = LOCAL) -> list[str]:
    """The sender, and then the recipients."""
    found = envelope(settings, sender, recipients, way)
    assert isinstance(found, Addressed), found
    return [str(found.sender), *(str(recipient.address) for recipient in found.recipients)]


def header(settings: dict[str, str], text: str, way: Way = LOCAL, *, has_end: bool = True, full_name: str = "") -> str:
    cleanup = cleanup_for(Parameters({**HERE, **settings}), "local.test")
    arrival = Arrival("QID", Address("me", "client.test"), 1_750_000_000.0, full_name)
    found = asyncio.run(cleanup.header(text.encode("utf-8", "surrogateescape"), arrival, way, has_end=has_end))
    assert isinstance(found, bytes), found
    return found.decode("utf-8", "surrogateescape")


def to_field(settings: dict[str, str], value: str, way: Way = LOCAL) -> str:
    """What becomes of the value of a To: field."""
    return header(settings, f"{FULL}To: {value}\r\n", way).removeprefix(f"{FULL}To: ").removesuffix("\r\n")


# -- incomplete addresses

STANDARD = [
    ("user", "user@mx.here.test"),
    ("user@host", "user@host"),
    ("user@host.test", "user@host.test"),
    ("host!user", "user@host"),
    ("a!b!c", "b!c@a"),
    ("user%host", "user@host"),
    ("user%a%b", "user%a@b"),
    ("x!y%z", "y%z@x"),
    ("a%b!c", "c@a%b"),
    ("user%host@here", "user%host@here"),
    ("x!y@z", "x!y@z"),
    ('"quoted user"', '"quoted user"@mx.here.test'),
    ('"a b!c"', '"a b!c"@mx.here.test'),
    ('"quoted user"@host', '"quoted user"@host'),
    ("user@[192.0.2.1]", "user@[192.0.2.1]"),
]


@pytest.mark.parametrize(("given", "standard"), STANDARD)
def test_the_standard_form(given: str, standard: str) -> None:
    assert addresses({}, given, given) == [standard, standard]
    assert to_field({}, given) == standard


@honours("append_at_myorigin", "append_dot_mydomain", "swap_bangpath", "allow_percent_hack", "myorigin", "mydomain")
@pytest.mark.parametrize(
    ("settings", "given", "standard"),
    [
        ({"append_at_myorigin": "no"}, "user", "user"),
        ({"myorigin": "origin.test"}, "user", "user@origin.test"),
        ({"append_dot_mydomain": "yes"}, "user@host", "user@host.here.test"),
        ({"append_dot_mydomain": "yes"}, "user@[192.0.2.1]", "user@[192.0.2.1]"),
        ({"append_dot_mydomain": "yes"}, "host!user", "user@host.here.test"),
        ({"append_dot_mydomain": "yes", "mydomain": "other.test"}, "user@host", "user@host.other.test"),
        ({"swap_bangpath": "no"}, "host!user", "host!user@mx.here.test"),
        ({"allow_percent_hack": "no"}, "user%host", "user%host@mx.here.test"),
    ],
)
def test_parameters_of_the_standard_form(settings: dict[str, str], given: str, standard: str) -> None:
    assert addresses(settings, given, given) == [standard, standard]
    assert to_field(settings, given) == standard


@pytest.mark.parametrize(
    ("given", "rewritten"),
    [
        ("<@a,@b:user@c>", "<user@c>"),
        ("@a:user", "user@mx.here.test"),
        ("user@host.test.", "user@host.test"),
        ("user@host..", "user@host.."),
        ("user@", "user@"),
        ('group: a, b@c, "d e"@f;, last', 'group: a@mx.here.test, b@c, "d e"@f;, last@mx.here.test'),
        ("undisclosed-recipients:;", "undisclosed-recipients:;"),
        ('"Joe, Jr"  <joe> (comment)', '"Joe, Jr"  <joe@mx.here.test> (comment)'),
        ("joe (my (own) name)", "joe@mx.here.test (my (own) name)"),
        ("joe (c) @ (d) host.", "joe@host (c) (d)"),
        ("=?utf-8?q?J=C3=B6?= <joe>", "=?utf-8?q?J=C3=B6?= <joe@mx.here.test>"),
        ("Jöe <joe>", "Jöe <joe@mx.here.test>"),
        ("a b", "a@mx.here.test, b@mx.here.test"),
        ("one <a>,\r\n\ttwo <b>", "one <a@mx.here.test>,\r\n\ttwo <b@mx.here.test>"),
        ("Foo <a, b>", "Foo <a, b>"),
        ("<>", "<>"),
        ("a b@c.test (x", "a@mx.here.test, b@c.test (x"),
        ("a\\\r\n b", "a@mx.here.test,\r\n b@mx.here.test"),
        ('"a\\\r\n b"', '"a b"@mx.here.test'),
        ('a, "unclosed', "a@mx.here.test, unclosed@mx.here.test"),
        ('"a b"!c', '"a b!c"@mx.here.test'),
    ],
)
def test_addresses_in_headers(given: str, rewritten: str) -> None:
    assert to_field({}, given) == rewritten


def test_what_is_no_address_field_stays() -> None:
    text = f"{FULL}X-To: user\r\nSubject: user\r\nReceived: from user\r\n"
    assert header({}, text) == text


@honours("remote_header_rewrite_domain")
def test_headers_of_remote_clients_stay_unless_a_domain_is_given_for_them() -> None:
    assert to_field({}, "user", REMOTE) == "user"
    assert to_field({"remote_header_rewrite_domain": "domain.invalid"}, "user", REMOTE) == "user@domain.invalid"
    settings = {"remote_header_rewrite_domain": "domain.invalid", "append_dot_mydomain": "yes"}
    assert to_field(settings, "user@host", REMOTE) == "user@host.domain.invalid"
    assert to_field(settings, "user@host", LOCAL) == "user@host.here.test"


# -- canonical and masquerade

ALL = "inline:{ {a@x.test = b@x.test}, {b@x.test = c@x.test}, {@y.test = @z.test}, {u@x.test = v@x.test},"
ALL += " {loc = mapped@q.test}, {bare@x.test = bare2}, {l1@x.test = l2@x.test}, {l2@x.test = l1@x.test} }"


@honours("canonical_maps", "recipient_delimiter")
@pytest.mark.parametrize(
    ("given", "mapped"),
    [
        ("a@x.test", "c@x.test"),
        ("A@X.TEST", "c@x.test"),
        ("p+e@y.test", "p+e@z.test"),
        ("u+e@x.test", "v+e@x.test"),
        ("loc@mx.here.test", "mapped@q.test"),
        ("loc@local.test", "mapped@q.test"),
        ("loc@elsewhere.test", "loc@elsewhere.test"),
        ("loc+e", "mapped+e@q.test"),
        ("bare@x.test", "bare2@mx.here.test"),
        ("l1@x.test", "l1@x.test"),
    ],
)
def test_canonical_maps(given: str, mapped: str) -> None:
    settings = {"canonical_maps": ALL, "recipient_delimiter": "+"}
    assert addresses(settings, given, given) == [mapped, mapped]
    assert to_field(settings, given) == mapped
    assert to_field(settings, given, REMOTE) == given


SENDERS = [
    *("From", "Sender", "Reply-To", "Errors-To", "Return-Receipt-To", "Disposition-Notification-To"),
    *("Resent-From", "Resent-Sender", "Mail-Followup-To"),
]
RECIPIENTS = ["To", "Cc", "Apparently-To", "Resent-To", "Resent-Cc", "Resent-Reply-To"]


@honours("sender_canonical_maps", "recipient_canonical_maps")
def test_senders_and_recipients_have_maps_of_their_own() -> None:
    settings = {
        "sender_canonical_maps": "inline:{ x@y.test=sender@s.test }",
        "recipient_canonical_maps": "inline:{ x@y.test=recipient@r.test }",
        "canonical_maps": "inline:{ sender@s.test=last@s.test }",
    }
    assert addresses(settings, "x@y.test", "x@y.test") == ["last@s.test", "recipient@r.test"]
    for names, mapped in ((SENDERS, "last@s.test"), (RECIPIENTS, "recipient@r.test")):
        for name in names:
            assert f"{name}: {mapped}\r\n" in header(settings, f"{name}: x@y.test\r\n")
    assert "Mail-Reply-To: x@y.test\r\n" in header(settings, "Mail-Reply-To: x@y.test\r\n")


@honours(
    "canonical_classes", "sender_canonical_classes", "recipient_canonical_classes", "masquerade_classes",
    "masquerade_domains",
)  # fmt: skip
@pytest.mark.parametrize(
    ("maps", "classes"),
    [
        ("canonical", ("envelope_sender", "envelope_recipient", "header_sender", "header_recipient")),
        ("sender_canonical", ("envelope_sender", "header_sender")),
        ("recipient_canonical", ("envelope_recipient", "header_recipient")),
        ("masquerade", ("envelope_sender", "envelope_recipient", "header_sender", "header_recipient")),
    ],
)
def test_classes_say_which_addresses_are_mapped(maps: str, classes: Sequence[str]) -> None:
    tables = (
        {"masquerade_domains": "y.test"} if maps == "masquerade" else {f"{maps}_maps": "inline:{ u@h.y.test=u@y.test }"}
    )
    for chosen in classes:
        settings = {**tables, f"{maps}_classes": chosen}
        text = header(settings, "From: u@h.y.test\r\nTo: u@h.y.test\r\n")
        changed = {
            name
            for name, value in (
                ("envelope_sender", addresses(settings, "u@h.y.test", "r@x.test")[0]),
                ("envelope_recipient", addresses(settings, "s@x.test", "u@h.y.test")[1]),
                ("header_sender", text.split("\r\n")[0].removeprefix("From: ")),
                ("header_recipient", text.split("\r\n")[1].removeprefix("To: ")),
            )
            if value == "u@y.test"
        }
        assert changed == {chosen}


def test_an_unknown_class_is_an_error() -> None:
    with pytest.raises(ParameterError, match="must be a list of envelope_sender, header_sender"):
        Parameters({"sender_canonical_classes": "envelope_recipient"})


@honours("masquerade_domains", "masquerade_exceptions")
@pytest.mark.parametrize(
    ("given", "masqueraded"),
    [
        ("u@s.m.test", "u@m.test"),
        ("u@S.M.test", "u@m.test"),
        ("u@m.test", "u@m.test"),
        ("u@xm.test", "u@xm.test"),
        ("u@a.no.m.test", "u@a.no.m.test"),
        ("root@s.m.test", "root@s.m.test"),
        ("Root@s.m.test", "Root@s.m.test"),
        ("root+x@s.m.test", "root+x@m.test"),
        ('"q q"@s.m.test', '"q q"@m.test'),
        ("loc", "loc@here.test"),
    ],
)
def test_masquerading(given: str, masqueraded: str) -> None:
    settings = {"masquerade_domains": "!no.m.test m.test here.test", "masquerade_exceptions": "root"}
    sender, recipient = addresses(settings, given, given)
    assert (sender, to_field(settings, given)) == (masqueraded, masqueraded)
    assert recipient == addresses({}, given, given)[1]


@pytest.mark.parametrize("name", ["canonical_maps", "virtual_alias_maps", "sender_bcc_maps", "recipient_bcc_maps"])
def test_a_table_that_does_not_answer_is_a_temporary_refusal(name: str) -> None:
    found = envelope({name: "texthash:/no/such/file"}, "a@b.test", ["c@d.test"])
    assert isinstance(found, Refusal)
    assert found.reply.code == 451
    assert "/no/such/file" in found.detail


@pytest.mark.parametrize("value", ["", "a <b", "a@b:c"])
def test_a_right_hand_side_without_an_address_is_a_temporary_refusal(value: str) -> None:
    found = envelope({"virtual_alias_maps": f"inline:{{ {{a@b.test = {value}}} }}"}, "", ["a@b.test"])
    assert isinstance(found, Refusal)
    assert found.reason == "table-trouble"


# -- virtual aliases, copies, duplicates

ALIASES = "inline:{ {all@x.test = a@x.test, b@x.test}, {ext@x.test = tgt@x.test}, {@wild.test = @other.test},"
ALIASES += ' {list@x.test = "q, r"@x.test c@x.test bare}, {chain@x.test = all@x.test, d@x.test} }'


@honours("virtual_alias_maps")
@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        ("list@x.test", ['"q, r"@x.test', "c@x.test", "bare@mx.here.test"]),
        ("ext+foo@x.test", ["tgt+foo@x.test"]),
        ("u+y@wild.test", ["u+y@other.test"]),
        ("chain@x.test", ["a@x.test", "b@x.test", "d@x.test"]),
    ],
)
def test_virtual_aliases(given: str, expanded: list[str]) -> None:
    settings = {"virtual_alias_maps": ALIASES, "recipient_delimiter": "+"}
    assert addresses(settings, "", given) == ["", *expanded]
    assert addresses(settings, "", given, way=INTERNAL) == ["", *expanded]
    assert addresses(settings, "", given, way=Way(HeaderSource.LOCAL, maps=False)) == ["", given]


@honours("propagate_unmatched_extensions")
@pytest.mark.parametrize(
    ("classes", "canonical", "virtual"),
    [("canonical, virtual", True, True), ("canonical", True, False), ("virtual", False, True), ("", False, False)],
)
def test_extensions_go_over_to_the_result_where_that_is_wanted(classes: str, canonical: bool, virtual: bool) -> None:
    settings = {"propagate_unmatched_extensions": classes, "recipient_delimiter": "+"}
    extended, bare = ["", "v+e@x.test"], ["", "v@x.test"]
    found = addresses({**settings, "canonical_maps": "inline:{ u@x.test=v@x.test }"}, "", "u+e@x.test")
    assert found == (extended if canonical else bare)
    found = addresses({**settings, "virtual_alias_maps": "inline:{ u@x.test=v@x.test }"}, "", "u+e@x.test")
    assert found == (extended if virtual else bare)


@honours("virtual_alias_expansion_limit", "virtual_alias_recursion_limit", "virtual_alias_address_length_limit")
@pytest.mark.parametrize(
    "limit",
    ["virtual_alias_expansion_limit", "virtual_alias_recursion_limit", "virtual_alias_address_length_limit"],
)
def test_limits_of_virtual_aliases(limit: str) -> None:
    table = "inline:{ {a@x.test = b@x.test, c@x.test}, {b@x.test = long.long.long@x.test} }"
    settings = {"virtual_alias_maps": table}
    assert len(addresses(settings, "", "a@x.test")) == 3
    value = "18" if "length" in limit else "1"
    found = envelope({**settings, limit: value}, "", ["a@x.test"])
    assert isinstance(found, Refusal)
    assert (found.reply.code, found.reason) == (451, "alias-loop")


@honours("always_bcc", "sender_bcc_maps", "recipient_bcc_maps")
def test_blind_copies() -> None:
    settings = {
        "always_bcc": "archive",
        "sender_bcc_maps": "inline:{ @client.test=sb@b.test }",
        "recipient_bcc_maps": "inline:{ u@x.test=rb@b.test }",
        "virtual_alias_maps": "inline:{ {rb@b.test = r1@b.test, r2@b.test} }",
        "recipient_delimiter": "+",
    }
    found = envelope(settings, "me@client.test", ["u+e@x.test", "other@x.test"])
    assert isinstance(found, Addressed)
    assert [str(recipient.address) for recipient in found.recipients] == [
        *("u+e@x.test", "other@x.test"),
        *("sb@b.test", "archive@mx.here.test", "r1@b.test", "r2@b.test"),
    ]
    told = Recipient(NULL_SENDER).notify
    assert [recipient.notify for recipient in found.recipients] == [told] * 2 + [Notify.NEVER] * 4
    assert len(addresses(settings, "me@client.test", "u@x.test", way=INTERNAL)) == 2
    assert addresses({"always_bcc": "x@y.test"}, "", "u@x.test") == ["", "u@x.test", "x@y.test"]
    assert addresses({"sender_bcc_maps": "static:x@y.test"}, "", "u@x.test") == ["", "u@x.test"]
    # The copy is one of its own, because nobody is told what becomes of it; Postfix makes it too.
    assert addresses({"always_bcc": "u@x.test"}, "", "u@x.test") == ["", "u@x.test", "u@x.test"]
    assert addresses({"always_bcc": "u@x.test", "enable_original_recipient": "no"}, "", "u@x.test") == ["", "u@x.test"]


@pytest.mark.parametrize("name", ["always_bcc", "empty_address_recipient"])
def test_what_must_be_one_address(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} = a, b: must be one address"):
        cleanup_for(Parameters({name: "a, b"}))


@honours("empty_address_recipient")
def test_the_empty_address() -> None:
    assert addresses({}, "", "") == ["", "MAILER-DAEMON@mx.here.test"]
    assert addresses({"empty_address_recipient": "nobody@x.test"}, "", "") == ["", "nobody@x.test"]


@honours("enable_original_recipient")
def test_recipients_come_once_and_with_original_recipients_once_for_each() -> None:
    given = ["a@x.test", "all@x.test", "b@x.test", "a@X.test"]
    settings = {"virtual_alias_maps": "inline:{ {all@x.test = a@x.test, b@x.test} }"}
    assert addresses(settings, "", *given) == ["", "a@x.test", "a@x.test", "b@x.test", "b@x.test"]
    settings["enable_original_recipient"] = "no"
    assert addresses(settings, "", *given) == ["", "a@x.test", "b@x.test"]


@honours("duplicate_filter_limit")
def test_only_so_many_recipients_are_remembered() -> None:
    given = ["a@x.test", "b@x.test", "c@x.test", "c@x.test", "a@x.test"]
    assert addresses({}, "", *given) == ["", "a@x.test", "b@x.test", "c@x.test"]
    assert addresses({"duplicate_filter_limit": "2"}, "", *given) == ["", *given[:4]]
    assert addresses({"duplicate_filter_limit": "0"}, "", *given) == ["", "a@x.test", "b@x.test", "c@x.test"]


def test_the_original_recipient_is_as_it_was_given() -> None:
    found = envelope({"canonical_maps": "inline:{ u@mx.here.test=v@x.test }"}, "", ["u", "w@x.test"])
    assert isinstance(found, Addressed)
    assert [recipient.original for recipient in found.recipients] == [Address("u"), None]


# -- fields that are missing, and fields that must go


def names(text: str) -> list[str]:
    return [line.partition(":")[0] for line in text.split("\r\n") if line and line[0] not in " \t"]


@honours("always_add_missing_headers", "undisclosed_recipients_header")
@pytest.mark.parametrize(
    ("settings", "given", "local", "remote"),
    [
        ({}, "Subject: x\r\n", "Subject Message-Id Date From", "Subject"),
        ({}, "From:\r\nDate:\r\n", "From Date Message-Id", "From Date"),
        ({}, "resent-to: u@x\r\n", "resent-to Resent-Message-Id Resent-Date Resent-From", "resent-to"),
        ({"always_add_missing_headers": "yes"}, "", "Message-Id Date From", "Message-Id Date From"),
        ({"undisclosed_recipients_header": "To: undisclosed:;"}, "", "Message-Id Date From To", ""),
        (
            {"undisclosed_recipients_header": "To: undisclosed:;"},
            FULL,
            "From Date Message-ID To",
            "From Date Message-ID",
        ),
        ({"undisclosed_recipients_header": "To: undisclosed:;"}, "Cc:\r\n", "Cc Message-Id Date From", "Cc"),
        ({"undisclosed_recipients_header": "To: undisclosed:;"}, "Bcc: u@x\r\n", "Message-Id Date From To", ""),
        ({"remote_header_rewrite_domain": "x.test"}, "", "Message-Id Date From", "Message-Id Date From"),
    ],
)
def test_missing_fields(settings: dict[str, str], given: str, local: str, remote: str) -> None:
    assert " ".join(names(header(settings, given))) == local
    assert " ".join(names(header(settings, given, REMOTE))) == remote


def test_what_missing_fields_say() -> None:
    text = header({"sender_canonical_maps": "inline:{ me@client.test=mapped@client.test }"}, "")
    assert "Message-Id: <QID@mx.here.test>\r\n" in text
    assert "\r\nDate: Sun, 15 Jun 2025 " in text
    assert "\r\nFrom: mapped@client.test\r\n" in text


@honours("header_from_format", "full_name_encoding_charset")
@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        ({}, "Joe User", "Joe User <me@client.test>"),
        ({}, 'Joe "X" User', '"Joe \\"X\\" User" <me@client.test>'),
        ({}, "J. User", '"J. User" <me@client.test>'),
        ({}, "x\\y", '"x\\\\y" <me@client.test>'),
        ({}, "", "me@client.test"),
        ({}, "Jöe\r\nX: y", "=?utf-8?B?SsO2ZVg6IHk=?= <me@client.test>"),
        ({"full_name_encoding_charset": "iso-8859-1"}, "Jöe", "=?iso-8859-1?B?SvZl?= <me@client.test>"),
        ({"full_name_encoding_charset": "iso-8859-1"}, "日本", "=?utf-8?B?5pel5pys?= <me@client.test>"),
        ({"full_name_encoding_charset": "no-such"}, "é", "=?utf-8?B?w6k=?= <me@client.test>"),
        ({}, "日" * 13, "=?utf-8?B?" + "5pel" * 12 + "?= =?utf-8?B?5pel?= <me@client.test>"),
        ({"header_from_format": "obsolete"}, "a (b) c", "me@client.test (a \\(b\\) c)"),
        ({"header_from_format": "obsolete"}, "J. User", "me@client.test (J. User)"),
    ],
)
def test_the_full_name_in_from(settings: dict[str, str], name: str, value: str) -> None:
    assert f"\r\nFrom: {value}\r\n" in header(settings, "", full_name=name)


@honours("message_drop_headers")
@pytest.mark.parametrize("way", [LOCAL, REMOTE])
def test_fields_that_are_dropped(way: Way) -> None:
    given = (
        f"{WHOLE}BCC : x@y.test,\r\n\tz@y.test\r\nReturn-Path: <x>\r\nContent-Length: 3\r\nresent-bcc: x@y\r\nX: y\r\n"
    )
    assert names(header({}, given, way))[4:] in (["X"], ["X", "Resent-Message-Id", "Resent-Date", "Resent-From"])
    assert (
        header({"message_drop_headers": "X"}, f"{WHOLE}Bcc: a@b.test\r\nx: y\r\n", way) == f"{WHOLE}Bcc: a@b.test\r\n"
    )
    assert header({"message_drop_headers": ""}, f"{WHOLE}Bcc: a@b.test\r\n", way) == f"{WHOLE}Bcc: a@b.test\r\n"


@honours("header_size_limit")
def test_long_fields_are_cut_off() -> None:
    given = f"{WHOLE}X: {'a' * 200}\r\n {'b' * 200}\r\nY: z\r\n"
    assert header({"header_size_limit": "100"}, given) == f"{WHOLE}X: {'a' * 97}\r\nY: z\r\n"
    assert header({}, given) == given


@honours("header_address_token_limit")
def test_a_field_with_too_many_words_is_cut_off_when_it_is_rewritten() -> None:
    assert to_field({"header_address_token_limit": "7"}, "a, b, c, d, e") == "a@mx.here.test, b@mx.here.test, " + (
        "c@mx.here.test, d@mx.here.test"
    )
    assert to_field({"header_address_token_limit": "3"}, "a@x, b@x") == "a@x, b@x"


@honours("non_empty_end_of_header_action")
def test_a_header_without_an_empty_line() -> None:
    name = "non_empty_end_of_header_action"
    assert header({}, WHOLE, has_end=False) == WHOLE
    added = header({name: "add_header"}, WHOLE, has_end=False)
    assert added == WHOLE + "MIME-Error: message-header was terminated by non-empty line\r\n"
    assert header({name: "reject"}, WHOLE) == WHOLE
    cleanup = cleanup_for(Parameters({name: "reject"}))
    found = asyncio.run(cleanup.header(WHOLE.encode(), Arrival("Q", NULL_SENDER, 0.0), REMOTE, has_end=False))
    assert isinstance(found, Refusal)
    assert found.reply.code == 550


# -- the quick way past all this


@pytest.mark.parametrize(
    "given",
    [
        WHOLE,
        WHOLE.replace("a@b.test", "Ann Example <a@b.test>").replace(
            "c@d.test", '"C, D" <c@d.test>, e.f@g.test,\r\n h@i.test'
        ),
        WHOLE + "Reply-To: x@y.test\r\nSubject: a <b> c, d\r\n\tfolded: e\r\nX-Bcc: f\r\n",
    ],
)
def test_a_complete_header_is_not_even_parsed(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("ekiden.cleanup.cleanup.fields", must_not)
    monkeypatch.setattr("ekiden.cleanup.header_rewriting.fields", must_not)
    assert header({}, given) == given
    assert header({}, given, REMOTE) == given
    assert header({}, "X: y\r\n", REMOTE) == "X: y\r\n"


@pytest.mark.parametrize(
    "field",
    [
        "Reply-To: x",
        "To: x@y.test, z",
        "to : x",
        "Cc: a b@c.test",
        "Sender: <x>",
        "To: x@y.test\r\n (c), z",
        "To: u@h.",
    ],
)
def test_an_incomplete_address_is_found_in_any_field(field: str) -> None:
    assert header({}, f"{WHOLE}{field}\r\n") != f"{WHOLE}{field}\r\n"


@pytest.mark.parametrize(
    "given",
    [
        WHOLE + "X: y\r\n" * 10_000,
        WHOLE + "To: a, b <c>,\r\n d@e\r\n" * 2_000,
        WHOLE + "To: " + "a, " * 300_000 + "\r\n",
        WHOLE + "To: " + "(" * 500_000 + "\r\n",
        WHOLE + "To: x@y.test" + ",\r\n x@y.test" * 70_000 + "\r\n",
        WHOLE + "To: " + "a" * 1_000_000 + "\r\n",
        WHOLE + "To: " + "a " * 500_000 + "<\r\n",
    ],
)
@pytest.mark.parametrize("way", [LOCAL, REMOTE])
def test_huge_headers_take_little_time(given: str, way: Way) -> None:
    started = time.process_time()
    found = header({"canonical_maps": "inline:{ a@x.test=b@x.test }"}, given, way)
    assert time.process_time() - started < 5
    assert all(len(line) < 200_000 for line in found.split("\r\n"))
