"""Looking up names, and finding the way: addresses of hosts, MX, and what is not for this host."""

from __future__ import annotations

from ekiden.config.registry import Bool, Choice, Duration, Group, Int, Size, Tables, Text, Words


class NameServers(Words):
    """Addresses with an optional port: ``127.0.0.1``, ``127.0.0.1:5300``, ``[::1]:53``, ``::1``."""

    kind = "list of address:port"

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(_name_server(word) for word in super().parse(text))


def _name_server(word: str) -> str:
    """One server as ``a.b.c.d:port`` or ``[v6]:port``. Raises ValueError."""
    # The numeric form of an address is a question to the C library; only a set parameter pays for the import.
    import socket

    if word.startswith("["):
        address, closed, rest = word[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ("53" if closed and not rest else "")
    elif word.count(":") == 1:
        address, _, port = word.partition(":")
    else:
        address, port = word, "53"
    if not (port.isascii() and port.isdigit() and 1 <= len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"{word}: must be an IP address with an optional port, such as 127.0.0.1:5300 or [::1]:53")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        raise ValueError(
            f"{word}: must be an IP address with an optional port, such as 127.0.0.1:5300 or [::1]:53"
        ) from None
    return f"[{address}]:{port}" if family == socket.AF_INET6 else f"{address}:{port}"


class DnssecProbe(Text):
    """``type:name`` of a record that DNSSEC proves, such as ``ns:.``; empty: none."""

    kind = "type:name"

    def parse(self, text: str) -> str:
        kind, colon, name = text.partition(":")
        if text and not (colon and name and kind.upper() in PROBE_TYPES):
            raise ValueError(f"must be type:name, such as ns:. , with a type of {', '.join(PROBE_TYPES).lower()}")
        return text


PROBE_TYPES = ("A", "AAAA", "MX", "NS", "SOA", "TXT")


class DnsParameters(Group):
    # How names are looked up.
    dns_resolvers = NameServers(
        "", doc="The name servers to ask, as address or address:port; without any, those of the system."
    )
    dns_timeout = Duration("2s", minimum=1, doc="How long the first try of a name server may take; later tries longer.")
    dns_tries = Int("3", minimum=1, maximum=10, doc="How often each name server is asked before a look-up fails.")
    dns_lookup_time_limit = Duration("20s", minimum=1, doc="The most time one look-up may take, all tries together.")
    dns_transport = Choice(
        "udp",
        "udp",
        "tcp",
        doc="How name servers are asked: udp goes on with TCP when an answer was cut short, tcp uses nothing else.",
    )
    dns_edns = Bool(
        "yes",
        doc="Offer name servers larger answers over UDP (EDNS, 1232 bytes); servers that refuse are asked without.",
    )
    dns_cache_size_limit = Size(
        "16777216", minimum=65536, doc="The most memory, in bytes and roughly, that one process's DNS cache takes."
    )
    dns_cache_ttl_limit = Duration("1h", doc="The longest time a found record is kept, whatever its own time to live.")
    dns_negative_ttl_limit = Duration("60s", doc="The longest time that the absence of a name or record is remembered.")
    dns_trouble_ttl = Duration(
        "1s", doc="How long a look-up that failed is not tried again: SERVFAIL, REFUSED, time-out; 0s always tries."
    )
    dnssec_probe = DnssecProbe(
        "ns:.",
        doc="What smtp_dns_support_level = dnssec asks once, when an answer is not proven: if this is not either, the "
        "resolver does not validate, and the log says so.",
    )
    smtp_host_lookup = Words(
        "dns", doc="Where the addresses of hosts come from: dns, native (/etc/hosts), or both, dns first."
    )
    native_hosts_file = Text("/etc/hosts", doc="The file of host names that smtp_host_lookup = native reads.")

    # Which of a destination's hosts are tried, and in which order.
    smtp_address_preference = Choice(
        "any",
        "any",
        "ipv4",
        "ipv6",
        doc="Which addresses of hosts of equal MX preference are tried first: ipv4, ipv6, or any in random order.",
    )
    smtp_balance_inet_protocols = Bool(
        "yes",
        doc="Make sure that smtp_mx_address_limit leaves addresses of both protocols where a destination has both.",
    )
    smtp_mx_address_limit = Int("5", doc="The most addresses of a destination that are tried; 0 is no limit.")
    smtp_mx_record_limit = Int(
        "100", minimum=1, doc="The most MX records of a destination that are looked at, those of best preference first."
    )
    smtp_defer_if_no_mx_address_found = Bool(
        "no", doc="Try again later, rather than return mail, when no MX host of a domain has an address."
    )
    proxy_interfaces = Words(
        "", doc="The addresses of a proxy or address translator in front of this host that mail also arrives on."
    )

    # Which transport takes a recipient, and who exists.
    local_transport = Text("local:$myhostname", doc="The transport, and its next hop, of mail for mydestination.")
    virtual_transport = Text("virtual", doc="The transport, and its next hop, of mail for virtual_mailbox_domains.")
    relay_transport = Text("relay", doc="The transport, and its next hop, of mail for relay_domains.")
    default_transport = Text("smtp", doc="The transport, and its next hop, of mail for all other domains.")
    local_recipient_maps = Tables(
        "unix:passwd.byname $alias_maps",
        doc="Tables of the users and addresses that mydestination has; without any, every local user is accepted.",
    )
    relay_recipient_maps = Tables(
        "", doc="Tables of the addresses that relay_domains have; without any, all are accepted."
    )
    unknown_local_recipient_reject_code = Int(
        "550", minimum=400, maximum=599, doc="The reply code for a recipient that local_recipient_maps does not have."
    )
    unknown_virtual_alias_reject_code = Int(
        "550", minimum=400, maximum=599, doc="The reply code for an unknown recipient of a virtual alias domain."
    )
    unknown_virtual_mailbox_reject_code = Int(
        "550", minimum=400, maximum=599, doc="The reply code for an unknown recipient of a virtual mailbox domain."
    )
    unknown_relay_recipient_reject_code = Int(
        "550", minimum=400, maximum=599, doc="The reply code for a recipient that relay_recipient_maps does not have."
    )
    allow_untrusted_routing = Bool(
        "no", doc="Let clients that are not trusted route mail through own domains with user%domain@here."
    )
    resolve_dequoted_address = Bool("yes", doc="Look for routing characters (@ % !) inside of quoted local parts too.")
    parent_domain_matches_subdomains = Words(
        "debug_peer_list, fast_flush_domains, mynetworks, permit_mx_backup_networks, qmqpd_authorized_clients, "
        "relay_domains, smtpd_access_maps",
        doc="The parameters in which a domain also matches its subdomains, without a leading dot.",
    )
