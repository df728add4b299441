"""The access rules of a service from its parameters: the short way where the lists are the usual ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ekiden.config.snapshot import Parameters
from ekiden.policy.access_rules import AccessLists, AccessRules, access_lists
from ekiden.policy.pop_before_smtp import MailboxLogins, PopBeforeSmtp
from ekiden.policy.relay_access import Destinations, RelayAccess, deferring
from ekiden.policy.restrictions import Facilities
from ekiden.policy.sender_login import SenderLogins
from ekiden.policy.unknown_domains import MailDomains
from ekiden.tables.open import Maps
from ekiden.tables.table import Table


def open_access(
    parameters: Parameters,
    destinations: Destinations,
    *,
    is_local: Callable[[str], Awaitable[bool]],
    open_table: Callable[[str], Table],
    reject_unlisted: bool = True,
    mailbox_logins: MailboxLogins | None = None,
    domains: MailDomains | None = None,
) -> RelayAccess:
    """``is_local``: whose users are looked up by name alone. ``domains``: None where DNS is not asked.

    Raises ConfigError.

    ``reject_unlisted``: recipients that do not exist are refused here, else by the delivery.
    """
    lists = access_lists(parameters)
    relay = lists.names_of("smtpd_relay_restrictions")
    code = parameters.relay_domains_reject_code
    if "defer_unauth_destination" in relay:
        code = deferring(code)
    rules = None
    if not lists.is_plain:
        rules = _rules(lists, parameters, destinations, is_local, open_table, reject_unlisted, mailbox_logins, domains)
    return RelayAccess(
        destinations,
        reject_unlisted=reject_unlisted,
        reject_unlisted_sender=parameters.smtpd_reject_unlisted_sender,
        relay_reject_code=code,
        trusts_logins="permit_sasl_authenticated" in relay,
        rules=rules,
    )


def _rules(
    lists: AccessLists,
    parameters: Parameters,
    destinations: Destinations,
    is_local: Callable[[str], Awaitable[bool]],
    open_table: Callable[[str], Table],
    reject_unlisted: bool,
    mailbox_logins: MailboxLogins | None,
    domains: MailDomains | None,
) -> AccessRules:
    logins = SenderLogins(
        Maps([open_table(word) for word in parameters.smtpd_sender_login_maps]),
        delimiter=parameters.recipient_delimiter,
        is_local=is_local,
    )
    certificates = Maps([open_table(word) for word in parameters.relay_clientcerts])
    rule = None if mailbox_logins is None else PopBeforeSmtp(mailbox_logins, parameters.pop_before_smtp_time)
    facilities = Facilities(parameters, destinations, logins, certificates, rule, domains)
    return AccessRules(lists, facilities, reject_unlisted_recipient=reject_unlisted)
