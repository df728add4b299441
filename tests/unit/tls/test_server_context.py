"""What each parameter of smtpd_tls_* makes of a handshake: of real ones, between two ends in memory (RFC 6066 §3)."""

from __future__ import annotations

import os
import ssl
import subprocess
import warnings
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.tls.key_files import KeyFileReader, offers_tls
from ekiden.tls.layer import TlsFailure
from ekiden.tls.openssl import openssl
from ekiden.tls.server_context import ServerContexts, TlsTrouble, is_mandatory
from ekiden.tls.tickets import PERIOD_S, TicketKeys
from support.certificates import Authority, self_signed
from support.honours import honours
from support.requirements import require_program
from support.tls_peers import Meeting, Service, client_context

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class Place:
    """A directory with an authority, and what it has issued."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority("The Root")
        self.root = directory / "root.pem"
        self.root.write_bytes(self.authority.pem)
        self.certificate, self.key = self.authority.issue("mx.test").write(directory, "server")
        self.settings = {"smtpd_tls_cert_file": str(self.certificate), "smtpd_tls_key_file": str(self.key)}

    def service(self, **settings: str) -> Service:
        return Service({**self.settings, **settings})

    def client_with(self, authority: Authority | None, name: str = "client.example") -> ssl.SSLContext:
        context = client_context(self.root)
        pair = self_signed(name) if authority is None else authority.issue(name, client=True)
        context.load_cert_chain(*pair.write(self.directory, "client"))
        return context


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def ciphers_of(service: Service) -> set[str]:
    """Of TLS 1.2, tried one by one."""
    found = set()
    everything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    everything.set_ciphers("ALL:@SECLEVEL=0")
    for cipher in everything.get_ciphers():
        if cipher["protocol"] == "TLSv1.3":
            continue
        client = client_context(highest=V12)
        client.set_ciphers(f"{cipher['name']}:@SECLEVEL=0")
        try:
            found.add(service.meet(client).facts.cipher)
        except (TlsFailure, ssl.SSLError):
            continue
    return found


@honours("smtpd_tls_security_level", "smtpd_use_tls", "smtpd_enforce_tls", "smtpd_tls_wrappermode")
@pytest.mark.parametrize(
    ("settings", "offered", "mandatory"),
    [
        ({}, False, False),
        ({"smtpd_tls_security_level": "none"}, False, False),
        ({"smtpd_tls_security_level": "may"}, True, False),
        ({"smtpd_tls_security_level": "encrypt"}, True, True),
        ({"smtpd_use_tls": "yes"}, True, False),
        ({"smtpd_enforce_tls": "yes"}, True, True),
        ({"smtpd_tls_security_level": "none", "smtpd_use_tls": "yes", "smtpd_enforce_tls": "yes"}, False, False),
        ({"smtpd_tls_security_level": "may", "smtpd_enforce_tls": "yes"}, True, False),
        ({"smtpd_tls_wrappermode": "yes"}, True, True),
        ({"smtpd_tls_wrappermode": "yes", "smtpd_tls_security_level": "none"}, True, True),
    ],
)
def test_whether_there_is_tls_and_whether_it_is_obligatory(
    settings: dict[str, str], offered: bool, mandatory: bool
) -> None:
    parameters = Parameters(settings)
    assert (offers_tls(parameters), is_mandatory(parameters)) == (offered, mandatory)


@honours("smtpd_tls_cert_file", "smtpd_tls_key_file")
def test_a_modern_client_gets_tls_13_and_the_certificate(place: Place) -> None:
    meeting = place.service().meet(client_context(place.root))
    assert (meeting.facts.protocol, meeting.shown) == ("TLSv1.3", "mx.test")
    assert meeting.say(b"EHLO x\r\n") == b"EHLO x\r\n"
    assert meeting.hear(meeting.layer.send(b"250 x\r\n")) == b"250 x\r\n"


def test_one_file_may_have_both(place: Place) -> None:
    both = place.directory / "both.pem"
    both.write_bytes(place.key.read_bytes() + place.certificate.read_bytes())
    assert Service({"smtpd_tls_cert_file": str(both)}).meet(client_context(place.root)).shown == "mx.test"


@honours("smtpd_tls_eccert_file", "smtpd_tls_eckey_file")
def test_two_kinds_of_certificates(place: Place) -> None:
    rsa, rsa_key = place.authority.issue("rsa.test", key="rsa").write(place.directory, "rsa")
    service = place.service(
        smtpd_tls_cert_file=str(rsa),
        smtpd_tls_key_file=str(rsa_key),
        smtpd_tls_eccert_file=str(place.certificate),
        smtpd_tls_eckey_file=str(place.key),
    )
    assert shown_to_each(service) == {"rsa.test", "mx.test"}


@honours("smtpd_tls_chain_files")
def test_chain_files_go_before_all_and_may_hold_several_keys(place: Place) -> None:
    below = Authority("Below", issuer=place.authority)
    rsa, elliptic = below.issue("rsa.test", key="rsa"), below.issue("ec.test")
    chain = place.directory / "chain.pem"
    chain.write_bytes(rsa.key_pem + rsa.pem + elliptic.key_pem + elliptic.pem)
    service = place.service(smtpd_tls_chain_files=str(chain))
    assert shown_to_each(service) == {"rsa.test", "ec.test"}
    # The client knows the root alone: the one in the middle must have come with it.
    assert service.meet(client_context(place.root), "ec.test").shown == "ec.test"


def shown_to_each(service: Service) -> set[str]:
    """To clients that can check just one kind of signature each."""
    found = set()
    for kind in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"):
        client = client_context(highest=V12)
        client.set_ciphers(kind)
        found.add(service.meet(client).shown)
    return found


@honours("smtpd_tls_protocols", "smtpd_tls_mandatory_protocols")
@pytest.mark.parametrize(
    ("settings", "versions"),
    [
        ({}, {"TLSv1.2", "TLSv1.3"}),
        ({"smtpd_tls_protocols": "TLSv1.3", "smtpd_tls_mandatory_protocols": "!TLSv1.3"}, {"TLSv1.3"}),
        ({"smtpd_tls_protocols": "!SSLv2, !SSLv3"}, {"TLSv1.2", "TLSv1.3"}),
        ({"smtpd_tls_protocols": "TLSv1, TLSv1.1"}, {"TLSv1.2", "TLSv1.3"}),
        (
            {"smtpd_tls_security_level": "encrypt", "smtpd_tls_mandatory_protocols": "<=TLSv1.2",
             "smtpd_tls_protocols": "TLSv1.3"},
            {"TLSv1.2"},
        ),
    ],
)  # fmt: skip
def test_versions(place: Place, settings: dict[str, str], versions: set[str]) -> None:
    found = set()
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, V12, V13):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        client.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            client.minimum_version = client.maximum_version = version
        try:
            found.add(place.service(**settings).meet(client).facts.protocol)
        except (TlsFailure, ssl.SSLError):
            continue
    assert found == versions


WEAK = ("ADH", "AECDH", "NULL", "RC4", "RC2", "DES", "EXP", "MD5", "PSK", "SRP", "SEED", "IDEA")


@honours("smtpd_tls_ciphers", "smtpd_tls_exclude_ciphers")
def test_ciphers_where_tls_is_not_obligatory(place: Place) -> None:
    found = ciphers_of(place.service(tls_high_cipherlist="ECDHE+AES256", smtpd_tls_ciphers="medium"))
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" in found
    assert not [name for name in found if any(word in name for word in WEAK)]
    found = ciphers_of(
        place.service(
            tls_high_cipherlist="ECDHE+AESGCM",
            smtpd_tls_ciphers="high",
            smtpd_tls_exclude_ciphers="AES128",
            smtpd_tls_mandatory_exclude_ciphers="AES256",
        )
    )
    assert found == {"ECDHE-ECDSA-AES256-GCM-SHA384"}


@honours("smtpd_tls_mandatory_ciphers", "smtpd_tls_mandatory_exclude_ciphers")
def test_ciphers_where_tls_is_obligatory(place: Place) -> None:
    service = place.service(
        smtpd_tls_security_level="encrypt",
        tls_high_cipherlist="ECDHE+AESGCM:ECDHE+CHACHA20",
        smtpd_tls_mandatory_ciphers="high",
        smtpd_tls_exclude_ciphers="CHACHA20",
        smtpd_tls_mandatory_exclude_ciphers="AES128",
    )
    assert ciphers_of(service) == {"ECDHE-ECDSA-AES256-GCM-SHA384"}


@honours("tls_preempt_cipherlist")
def test_whose_order_of_ciphers_counts(place: Place) -> None:
    client = client_context(highest=V12)
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    assert place.service().meet(client).facts.cipher == "ECDHE-ECDSA-AES128-GCM-SHA256"
    assert place.service(tls_preempt_cipherlist="yes").meet(client).facts.cipher == "ECDHE-ECDSA-AES256-GCM-SHA384"


@honours("smtpd_tls_eecdh_grade", "tls_eecdh_auto_curves", "tls_eecdh_strong_curve", "tls_eecdh_ultra_curve")
@pytest.mark.parametrize(
    ("settings", "curves"),
    [
        ({}, {"prime256v1", "secp384r1", "secp521r1", "X25519", "X448"}),
        ({"tls_eecdh_auto_curves": "X25519 secp521r1"}, {"X25519", "secp521r1"}),
        ({"smtpd_tls_eecdh_grade": "strong"}, {"prime256v1"}),
        ({"smtpd_tls_eecdh_grade": "strong", "tls_eecdh_strong_curve": "X25519"}, {"X25519"}),
        ({"smtpd_tls_eecdh_grade": "ultra"}, {"secp384r1"}),
        ({"smtpd_tls_eecdh_grade": "ultra", "tls_eecdh_ultra_curve": "secp521r1"}, {"secp521r1"}),
    ],
)
def test_curves(place: Place, settings: dict[str, str], curves: set[str]) -> None:
    assert openssl() is not None
    # An RSA certificate, for the curve of an elliptic one must be allowed too.
    rsa, key = place.authority.issue("rsa.test", key="rsa").write(place.directory, "rsa")
    service = place.service(**settings, smtpd_tls_cert_file=str(rsa), smtpd_tls_key_file=str(key))
    found = set()
    for curve in ("prime256v1", "secp384r1", "secp521r1", "X25519", "X448"):
        client = client_context()
        library = openssl()
        assert library is not None
        library.set_groups(client, [curve])
        try:
            service.meet(client)
            found.add(curve)
        except (TlsFailure, ssl.SSLError):
            continue
    assert found == curves


def test_no_exchange_by_curves_in_tls_12(place: Place) -> None:
    rsa, key = place.authority.issue("rsa.test", key="rsa").write(place.directory, "rsa")
    service = place.service(smtpd_tls_cert_file=str(rsa), smtpd_tls_key_file=str(key), smtpd_tls_eecdh_grade="none")
    assert not [name for name in ciphers_of(service) if name.startswith("ECDHE")]


@honours("smtpd_tls_ask_ccert", "smtpd_tls_CAfile", "tls_append_default_CA")
def test_any_certificate_of_a_client_is_taken_and_its_worth_known(place: Place) -> None:
    trusted, stranger = place.client_with(place.authority), None
    asked = place.service(smtpd_tls_ask_ccert="yes", smtpd_tls_CAfile=str(place.root), tls_append_default_CA="yes")
    facts = asked.meet(trusted).facts
    assert (facts.peer_name, facts.issuer, facts.trusted) == ("client.example", "The Root", True)
    stranger = place.client_with(None)
    facts = asked.meet(stranger).facts
    assert (facts.peer_name, facts.trusted, len(facts.fingerprint)) == ("client.example", False, 95)
    facts = asked.meet(client_context(place.root)).facts
    assert (facts.peer_name, facts.fingerprint, facts.trusted) == ("", "", False)
    assert place.service().meet(place.client_with(None)).facts.fingerprint == ""
    # Without the authority nobody is trusted.
    trusted = place.client_with(place.authority)
    assert not place.service(smtpd_tls_ask_ccert="yes").meet(trusted).facts.trusted


def test_an_expired_certificate_of_a_client_is_not_trusted(place: Place) -> None:
    client = client_context(place.root)
    pair = place.authority.issue("client.example", client=True, days=(-3, -1))
    client.load_cert_chain(*pair.write(place.directory, "old"))
    service = place.service(smtpd_tls_ask_ccert="yes", smtpd_tls_CAfile=str(place.root))
    meeting = service.meet(client)
    assert not meeting.facts.trusted
    assert meeting.layer.verify_trouble == "certificate has expired"


@honours("smtpd_tls_CApath")
def test_authorities_in_a_directory(place: Place) -> None:
    folder = place.directory / "authorities"
    folder.mkdir()
    (folder / "root.pem").write_bytes(place.authority.pem)
    subprocess.run([require_program("openssl"), "rehash", str(folder)], check=True)
    service = place.service(smtpd_tls_ask_ccert="yes", smtpd_tls_CApath=str(folder))
    assert service.meet(place.client_with(place.authority)).facts.trusted


@honours("smtpd_tls_ccert_verifydepth")
def test_a_chain_that_is_too_long_is_not_trusted(place: Place) -> None:
    below = Authority("Lower", issuer=Authority("Middle", issuer=place.authority))
    assert below.issuer is not None
    pair = below.issue("client.example", client=True)
    (place.directory / "deep.pem").write_bytes(pair.pem + below.issuer.pem)
    (place.directory / "deep.key").write_bytes(pair.key_pem)
    client = client_context(place.root)
    client.load_cert_chain(place.directory / "deep.pem", place.directory / "deep.key")
    asked = {"smtpd_tls_ask_ccert": "yes", "smtpd_tls_CAfile": str(place.root)}
    assert place.service(**asked).meet(client).facts.trusted
    assert not place.service(**asked, smtpd_tls_ccert_verifydepth="1").meet(client).facts.trusted


@honours("smtpd_tls_fingerprint_digest")
@pytest.mark.parametrize(("digest", "octets"), [("sha256", 32), ("sha512", 64), ("sha1", 20), ("md5", 16)])
def test_fingerprints(place: Place, digest: str, octets: int) -> None:
    service = place.service(smtpd_tls_ask_ccert="yes", smtpd_tls_fingerprint_digest=digest)
    facts = service.meet(place.client_with(None)).facts
    assert (len(facts.fingerprint), len(facts.key_fingerprint)) == (octets * 3 - 1, octets * 3 - 1)


# Sessions.


def session_of(meeting: Meeting) -> ssl.SSLSession:
    session = meeting.client.session
    assert session is not None
    return session


@pytest.mark.parametrize("version", [V12, V13])
def test_a_session_is_taken_up_in_another_worker_and_after_a_restart(place: Place, version: ssl.TLSVersion) -> None:
    secret = b"s" * 32
    workers = [Service(place.settings, tickets=TicketKeys(0.0, secret)) for _ in range(2)]
    client = client_context(place.root, lowest=version, highest=version)
    first = workers[0].meet(client)
    assert not first.facts.resumed
    assert workers[1].meet(client, session=session_of(first)).facts.resumed
    other_secret = Service(place.settings, tickets=TicketKeys(0.0, b"t" * 32))
    assert not other_secret.meet(client, session=session_of(first)).facts.resumed


def test_the_keys_of_tickets_change_and_are_forgotten(place: Place) -> None:
    service, client = place.service(), client_context(place.root)
    first = service.meet(client)
    service.now += PERIOD_S / 2
    assert service.meet(client, session=session_of(first)).facts.resumed
    service.now += PERIOD_S
    assert not service.meet(client, session=session_of(first)).facts.resumed


def test_no_other_service_takes_up_a_session(place: Place) -> None:
    secret = b"s" * 32
    services = [Service(place.settings, tickets=TicketKeys(0.0, secret), name=name) for name in ("smtp", "submission")]
    client = client_context(place.root)
    first = services[0].meet(client)
    assert not services[1].meet(client, session=session_of(first)).facts.resumed


@honours("smtpd_tls_session_cache_timeout", "tls_ssl_options")
@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize(
    "settings",
    [{"smtpd_tls_session_cache_timeout": "0"}, {"tls_ssl_options": "NO_TICKET"}, {"smtpd_tls_ask_ccert": "yes"}],
)
def test_no_sessions(place: Place, settings: dict[str, str], version: ssl.TLSVersion) -> None:
    service = place.service(**settings)
    client = client_context(place.root, lowest=version, highest=version)
    session = service.meet(client).client.session
    assert session is None or not service.meet(client, session=session).facts.resumed


def test_a_session_ends_at_its_time(place: Place) -> None:
    session = session_of(place.service(smtpd_tls_session_cache_timeout="600s").meet(client_context(place.root)))
    assert session.ticket_lifetime_hint == 600


# Names.


@honours("tls_server_sni_maps")
@pytest.mark.parametrize("kind", ["texthash", "hash", "inline"])
def test_a_client_gets_the_certificate_of_the_name_that_it_asks_for(place: Place, kind: str) -> None:
    files = {}
    for name in ("one.test", "*.two.test"):
        pair = place.authority.issue(name)
        files[name] = place.directory / f"{name.strip('*.')}.pem"
        files[name].write_bytes(pair.key_pem + pair.pem)
    lines = [("One.test", files["one.test"]), (".two.test", files["*.two.test"])]
    table = place.directory / "names"
    table.write_text("".join(f"{name} {path}\n" for name, path in lines))
    text = "{ " + ", ".join(f"{{ {name} = {path} }}" for name, path in lines) + " }"
    service = place.service(tls_server_sni_maps=f"{kind}:{text if kind == 'inline' else table}")
    client = client_context(place.root)
    assert service.meet(client, "one.test").shown == "one.test"
    meeting = service.meet(client, "a.two.test")
    assert (meeting.shown, meeting.facts.server_name) == ("*.two.test", "a.two.test")
    unknown = service.meet(client_context(), "elsewhere.test")
    assert (unknown.shown, unknown.facts.server_name) == ("mx.test", "")
    session = session_of(service.meet(client, "one.test"))
    assert service.meet(client, "one.test", session=session).facts.resumed


def test_contents_in_the_table_are_as_good_as_files(place: Place) -> None:
    import base64

    pair = place.authority.issue("one.test")
    table = place.directory / "names"
    table.write_text(f"one.test {base64.b64encode(pair.key_pem + pair.pem).decode()}\n")
    service = place.service(tls_server_sni_maps=f"hash:{table}")
    assert service.meet(client_context(place.root), "one.test").shown == "one.test"


def test_a_name_whose_file_is_bad_gets_the_default_and_the_log_says_so(place: Place) -> None:
    (place.directory / "names").write_text(f"one.test {place.directory}/nothing.pem\ntwo.test {place.root}\n")
    service = place.service(tls_server_sni_maps=f"texthash:{place.directory}/names")
    assert [note for note in service.notes if "one.test" in note and "No such file" in note]
    assert [note for note in service.notes if "two.test" in note and "private key" in note]
    assert service.meet(client_context(), "one.test").shown == "mx.test"
    assert service.meet(client_context(), "two.test").shown == "mx.test"


def test_names_in_a_table_that_cannot_be_listed_are_refused(place: Place) -> None:
    (place.directory / "names").write_text("/x/ y\n")
    service = place.service(tls_server_sni_maps=f"regexp:{place.directory}/names")
    assert not service.tls.is_ready
    assert "can be listed" in service.notes[0]


# Files that are no good, and files that change.


def pipe_for(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda place: place.key.unlink(), "smtpd_tls_key_file = {key}: No such file or directory"),
        (lambda place: place.certificate.unlink(), "smtpd_tls_cert_file = {certificate}: No such file or directory"),
        (lambda place: place.key.write_bytes(b""), "no private key in it"),
        (lambda place: place.key.write_bytes(place.certificate.read_bytes()), "no private key in it"),
        (lambda place: place.certificate.write_bytes(b"garbage"), "no certificate in it"),
        (lambda place: place.key.write_bytes(place.authority.issue("x.test").key_pem), "not that of the certificate"),
        (lambda place: pipe_for(place.key), "not a plain file"),
    ],
)  # fmt: skip
def test_without_a_usable_key_there_is_no_tls_and_one_clear_line(place: Place, change: object, said: str) -> None:
    change(place)  # type: ignore[operator]
    service = place.service()
    assert not service.tls.is_ready
    assert service.tls.layer() is None
    (note,) = service.notes
    assert said.format(key=place.key, certificate=place.certificate) in note
    assert note.endswith("TLS is not available")


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(place: Place) -> None:
    from cryptography.hazmat.primitives import serialization as how

    pair = place.authority.issue("mx.test")
    protected = pair.key.private_bytes(how.Encoding.PEM, how.PrivateFormat.PKCS8, how.BestAvailableEncryption(b"x"))
    place.key.write_bytes(protected)
    assert "protected by a password" in place.service().notes[0]


def test_changed_files_are_used_for_new_connections_and_bad_ones_are_not(place: Place) -> None:
    service = place.service()
    assert not service.reader.changed()
    place.authority.issue("new.test").write(place.directory, "server")
    assert service.reader.changed()
    service.tls.renew(service.read())
    assert service.meet(client_context()).shown == "new.test"
    assert service.notes == ["smtp: the certificates have changed and are used from now on"]
    place.key.write_bytes(b"broken")
    for _ in range(3):
        service.tls.renew(service.read())
    assert service.meet(client_context()).shown == "new.test"
    (_, note) = service.notes
    assert note.endswith("no private key in it; the old certificates stay")
    place.authority.issue("newer.test").write(place.directory, "server")
    service.tls.renew(service.read())
    assert service.meet(client_context()).shown == "newer.test"


def test_files_that_others_changed_are_not_news(place: Place) -> None:
    service = place.service()
    service.tls.renew(service.read())
    assert service.notes == []


@pytest.mark.parametrize(
    ("settings", "begin"),
    [
        ({"smtpd_tls_ciphers": "good"}, "smtpd_tls_ciphers = good: "),
        ({"tls_eecdh_auto_curves": "X25519 nonsense"}, "tls_eecdh_auto_curves = X25519 nonsense: "),
        ({"smtpd_tls_CAfile": "/nonexistent/ca.pem"}, "smtpd_tls_CAfile = /nonexistent/ca.pem: No such file"),
        ({"smtpd_tls_CAfile": "{key}"}, "smtpd_tls_CAfile = {key}: "),
        ({"smtpd_tls_cert_file": ""}, "smtpd_tls_cert_file: no certificate"),
        ({"smtpd_tls_cert_file": "none"}, "smtpd_tls_cert_file: no certificate"),
        ({"smtpd_tls_chain_files": "{certificate}"}, "smtpd_tls_chain_files = {certificate}: "),
    ],
)
def test_trouble_names_the_parameter(place: Place, settings: dict[str, str], begin: str) -> None:
    names = {"key": str(place.key), "certificate": str(place.certificate)}
    parameters = Parameters(
        {
            **place.settings,
            "smtpd_tls_security_level": "may",
            **{name: text.format(**names) for name, text in settings.items()},
        }
    )
    with pytest.raises(TlsTrouble) as caught:
        ServerContexts(parameters, KeyFileReader([parameters]).read(), service="smtp")
    assert str(caught.value).startswith(begin.format(**names))


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"EHLO x\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"\x00" * 5]
)
def test_garbage_in_the_handshake_is_a_failure_and_nothing_else(place: Place, garbage: bytes) -> None:
    layer = place.service().tls.layer()
    assert layer is not None

    def feed() -> None:
        for at in range(0, len(garbage), 1000):
            layer.handshake(garbage[at : at + 1000])

    with pytest.raises(TlsFailure):
        feed()


def test_garbage_after_the_handshake(place: Place) -> None:
    meeting = place.service().meet(client_context(place.root))
    assert meeting.say(b"whole") == b"whole"
    with pytest.raises(TlsFailure):
        meeting.layer.receive(b"\x17\x03\x03\x00\x20" + b"x" * 32)


def test_farewells(place: Place) -> None:
    meeting = place.service().meet(client_context(place.root))
    meeting.layer.close()
    assert meeting.layer.take_output()
    meeting = place.service().meet(client_context(place.root))
    try:
        meeting.client.unwrap()
    except ssl.SSLWantReadError:
        pass
    assert meeting.layer.receive(meeting._to_server.read()) == b""
    assert meeting.layer.ended
    meeting.layer.close()
