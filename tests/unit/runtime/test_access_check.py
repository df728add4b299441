"""Access rules that cannot be, that are passed over or that would trust everybody are told with their lines."""

from __future__ import annotations

from pathlib import Path

from ekiden.config.load import build
from ekiden.runtime.access_check import check_access

_MASTER = "25 inet n - n - - smtpd\n"


def found(main_cf: str, master_cf: str = _MASTER) -> list[str]:
    configuration = build(Path("/etc/x"), f"myhostname = me.example\nalias_maps =\n{main_cf}", master_cf)
    assert not configuration.errors, configuration.errors
    return [str(problem) for problem in check_access(configuration)]


def test_the_default_rules_are_right() -> None:
    assert found("") == []
    assert found("mynetworks = 127.0.0.0/8 [::1]/128 10.0.0.0/8 192.0.2.1\nrelay_domains = example.com\n") == []


def test_what_is_not_there_yet_is_told_once() -> None:
    main_cf = "smtpd_recipient_restrictions = reject_rbl_client zen.example, permit_inet_interfaces\n"
    assert found(main_cf, _MASTER + "26 inet n - n - - smtpd\n") == [
        "/etc/x/main.cf:3: warning: smtpd_recipient_restrictions: reject_rbl_client zen.example is not there yet: "
        "passed over",
        "/etc/x/main.cf:3: warning: smtpd_recipient_restrictions: permit_inet_interfaces is not there yet: passed over",
    ]


def test_an_open_relay_is_an_error_also_of_one_service_alone() -> None:
    (problem,) = found("smtpd_relay_restrictions = permit\n")
    assert problem.startswith("/etc/x/main.cf:3: error: smtpd_relay_restrictions: neither it nor ")
    (problem,) = found("", _MASTER + "26 inet n - n - - smtpd -o smtpd_relay_restrictions=permit_mynetworks\n")
    assert problem.startswith("/etc/x/master.cf:2: error: smtpd_relay_restrictions: neither it nor ")
    assert problem.endswith("(-o in 26)")
    submission = "587 inet n - n - - smtpd -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject"
    assert found("", f"{submission} -o smtpd_relay_restrictions=\n") == []


def test_an_unknown_word_is_an_error() -> None:
    (problem,) = found("smtpd_helo_restrictions = reject_invalid_helo\n")
    assert problem.startswith("/etc/x/main.cf:3: error: smtpd_helo_restrictions: there is no restriction ")


def test_certificates_of_any_authority_are_told() -> None:
    (problem,) = found("smtpd_relay_restrictions = permit_tls_all_clientcerts, reject_unauth_destination\n")
    assert problem.startswith("/etc/x/main.cf:3: warning: permit_tls_all_clientcerts permits every client")


def test_login_that_nobody_can_reach_is_told() -> None:
    (problem,) = found("smtpd_sasl_auth_enable = yes\n")
    assert problem.startswith("/etc/x/main.cf:3: warning: smtpd_sasl_auth_enable = yes, but nobody can log in")
    for more in ("smtpd_tls_auth_only = no", "smtpd_tls_security_level = may", "smtpd_use_tls = yes"):
        assert found(f"smtpd_sasl_auth_enable = yes\n{more}\n") == []
    wrapped = "465 inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes -o smtpd_tls_wrappermode=yes\n"
    assert found("", wrapped) == []
    (problem,) = found("", "587 inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes\n")
    assert problem.startswith("/etc/x/master.cf:1: warning: ")
