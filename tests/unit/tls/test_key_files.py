"""What the supervisor reads of keys and certificates, and when it reads again; and how it is handed on."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from ekiden.config.load import build
from ekiden.config.snapshot import Parameters
from ekiden.runtime.key_vault import KeyVault, take_keys
from ekiden.tls.key_files import KeyFileReader, KeyFiles, key_directories
from ekiden.tls.tickets import PERIOD_S, TicketKeys
from support.honours import honours


def reader(directory: Path, **settings: str) -> KeyFileReader:
    texts = {name: text.replace("DIR", str(directory)) for name, text in settings.items()}
    return KeyFileReader([Parameters({"smtpd_tls_security_level": "may", **texts})])


def test_files_are_read_once_and_again_when_they_change(tmp_path: Path) -> None:
    (tmp_path / "both.pem").write_bytes(b"one")
    made = reader(tmp_path, smtpd_tls_cert_file="DIR/both.pem")
    assert made.read() == KeyFiles({f"{tmp_path}/both.pem": b"one"})
    assert not made.changed()
    (tmp_path / "fresh").write_bytes(b"two")
    os.replace(tmp_path / "fresh", tmp_path / "both.pem")
    assert made.changed()
    assert made.read().contents == {f"{tmp_path}/both.pem": b"two"}
    (tmp_path / "both.pem").unlink()
    assert made.changed()
    assert made.read().troubles == {f"{tmp_path}/both.pem": "No such file or directory"}
    assert not made.changed()
    (tmp_path / "both.pem").write_bytes(b"three")
    assert made.changed()


def test_a_link_that_is_turned_to_another_file_is_a_change(tmp_path: Path) -> None:
    """As certbot renews."""
    for name in ("1.pem", "2.pem"):
        (tmp_path / name).write_text(name)
    (tmp_path / "live.pem").symlink_to("1.pem")
    made = reader(tmp_path, smtpd_tls_chain_files="DIR/live.pem")
    assert made.read().contents == {f"{tmp_path}/live.pem": b"1.pem"}
    (tmp_path / "fresh").symlink_to("2.pem")
    os.replace(tmp_path / "fresh", tmp_path / "live.pem")
    assert made.changed()
    assert made.read().contents == {f"{tmp_path}/live.pem": b"2.pem"}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/dev/zero", "not a plain file"),
        ("DIR", "Is a directory"),
        ("DIR/large", "larger than 1048576 bytes, which no key or certificate is"),
        ("DIR/\0", "embedded null byte"),
    ],
)
def test_what_is_no_file_of_keys_is_trouble(tmp_path: Path, path: str, said: str) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate((1 << 20) + 1)
    found = reader(tmp_path, smtpd_tls_CAfile=path).read()
    assert list(found.troubles.values()) == [said]


def test_without_tls_nothing_is_read(tmp_path: Path) -> None:
    made = reader(tmp_path, smtpd_tls_security_level="none", smtpd_tls_cert_file="DIR/both.pem")
    assert not made.has_any
    assert made.read() == KeyFiles()


@honours("tls_server_sni_maps")
def test_names_have_files_or_contents_and_changes_of_either_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(b"A")
    (tmp_path / "b.pem").write_bytes(b"B")
    text = base64.b64encode(b"C").decode()
    table = tmp_path / "names"
    table.write_text(f"a.test DIR/a.pem\nB.Test DIR/a.pem, DIR/b.pem\nc.test {text}\n".replace("DIR", str(tmp_path)))
    made = reader(tmp_path, tls_server_sni_maps="texthash:DIR/names")
    assert made.has_any
    assert made.read().names == {f"texthash:{table}": {"a.test": b"A", "b.test": b"A\nB", "c.test": b"C"}}
    assert not made.changed()
    (tmp_path / "b.pem").write_bytes(b"BB")
    assert made.changed()
    assert made.read().names[f"texthash:{table}"]["b.test"] == b"A\nBB"
    table.write_text("")
    assert made.changed()


def test_the_vault_hands_on_a_copy_that_nobody_can_change(tmp_path: Path) -> None:
    (tmp_path / "both.pem").write_bytes(b"secret")
    text = f"smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {tmp_path}/both.pem\n"
    configuration = build(tmp_path, text, "smtp inet n - n - - smtpd\n", hostname="mx.test")
    vault = KeyVault(configuration)
    assert vault.watches
    copy = os.dup(vault.descriptor)
    for change in (lambda: os.pwrite(copy, b"x", 0), lambda: os.ftruncate(copy, 0)):
        with pytest.raises(PermissionError):
            change()
    assert take_keys(copy).contents == {f"{tmp_path}/both.pem": b"secret"}
    assert not vault.look()
    before = os.dup(vault.descriptor)
    (tmp_path / "both.pem").write_bytes(b"another")
    assert vault.look()
    assert take_keys(before).contents == {f"{tmp_path}/both.pem": b"secret"}
    assert take_keys(os.dup(vault.descriptor)).contents == {f"{tmp_path}/both.pem": b"another"}
    vault.close()


def test_ticket_keys_follow_from_secret_service_and_time() -> None:
    one, other = TicketKeys(100.0, b"s" * 32), TicketKeys(100.0, b"s" * 32)
    first = one.keys(100.0, "smtp", 80)
    assert len(first) == 80
    assert other.keys(100.0 + PERIOD_S - 1, "smtp", 80) == first
    assert other.keys(100.0, "submission", 80) != first
    assert TicketKeys(100.0).keys(100.0, "smtp", 80) != first
    later = one.keys(100.0 + 3 * PERIOD_S, "smtp", 80)
    assert later != first
    # Who comes so late at once has the same; and there is no way back.
    assert other.keys(100.0 + 3 * PERIOD_S, "smtp", 80) == later
    assert one.keys(100.0, "smtp", 80) == later


def keys_below(directory: Path) -> KeyFileReader:
    return KeyFileReader((), directories=key_directories(dkim_parameters(directory)))


def dkim_parameters(directory: Path) -> Parameters:
    return Parameters({"dkim_signing_table": "inline:{a.test=x}", "dkim_key_directory": f"{directory}/"})


def test_the_keys_of_a_directory_are_all_read_and_new_ones_are_a_change(tmp_path: Path) -> None:
    made = keys_below(tmp_path / "dkim")
    assert made.has_any
    assert made.read().troubles == {f"{tmp_path}/dkim": "No such file or directory"}
    assert not made.changed()
    below = tmp_path / "dkim" / "a.test"
    below.mkdir(parents=True)
    assert made.changed()
    (below / "s.private").write_bytes(b"one")
    for name in ("notes.txt", ".hidden.pem"):
        (below / name).write_bytes(b"-")
    assert made.read() == KeyFiles({f"{below}/s.private": b"one"})
    assert not made.changed()
    (below / "t.pem").write_bytes(b"two")
    assert made.changed()
    assert made.read().contents == {f"{below}/s.private": b"one", f"{below}/t.pem": b"two"}
    (below / "s.private").write_bytes(b"another")
    assert made.changed()


def test_a_directory_of_keys_is_not_read_without_end(tmp_path: Path) -> None:
    deep = tmp_path / "1" / "2" / "3"
    deep.mkdir(parents=True)
    (deep / "s.pem").write_bytes(b"deep")
    (tmp_path / "1" / "round").symlink_to(tmp_path)
    (tmp_path / "1" / "s.pem").write_bytes(b"s")
    assert keys_below(tmp_path).read() == KeyFiles({f"{tmp_path}/1/s.pem": b"s"})


def test_without_a_table_the_directory_is_left_alone(tmp_path: Path) -> None:
    assert list(key_directories(Parameters({"dkim_key_directory": str(tmp_path)}))) == []


def test_the_vault_reads_the_directory_that_any_service_names(tmp_path: Path) -> None:
    (tmp_path / "s.pem").write_bytes(b"one")
    master = f"587 inet n - n - - smtpd -o dkim_signing_table=inline:{{a.test=x}} -o dkim_key_directory={tmp_path}\n"
    vault = KeyVault(build(tmp_path, "", master, hostname="mx.test"))
    assert vault.watches
    assert take_keys(os.dup(vault.descriptor)).contents == {f"{tmp_path}/s.pem": b"one"}
    (tmp_path / "t.pem").write_bytes(b"two")
    assert vault.look()
    assert len(take_keys(os.dup(vault.descriptor)).contents) == 2
    vault.close()
