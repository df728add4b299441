"""Who this host is, where its files lie, and which domains it serves."""

from __future__ import annotations

from ekiden import __version__
from ekiden.config.registry import (
    Bool,
    Choice,
    Clients,
    Domains,
    Duration,
    Group,
    Int,
    Reload,
    Tables,
    Text,
    Version,
    Words,
)


class GeneralParameters(Group):
    # myhostname and mydomain have defaults that the reader computes from the host's own name.
    myhostname = Text(
        "localhost.localdomain",
        doc="The name of this host on the Internet; the default is its own full name.",
    )
    mydomain = Text("localdomain", doc="The domain of this host; the default is myhostname without its first label.")
    myorigin = Text("$myhostname", doc="The domain that mail sent from this host gets when its address has none.")
    mydestination = Domains(
        "$myhostname, localhost.$mydomain, localhost",
        doc="The domains whose mail is delivered by the local transport, to users of this host.",
    )
    mynetworks = Clients("127.0.0.0/8 [::1]/128", doc="The clients that may relay through this host.")
    mynetworks_style = Choice(
        "host",
        *("host", "subnet", "class"),
        doc="Where mynetworks is not set and this is: which clients it stands for, besides the loopback addresses. "
        "host: the addresses of this host; subnet: the networks that it is on; class: the network classes of these, "
        "which trusts far too many. With neither set, the loopback addresses alone.",
    )
    compatibility_level = Version(
        "3.6",
        doc="The version of Postfix whose defaults are wanted. A lower one brings the old default back where it was "
        "another: below 2, relay_domains is $mydestination.",
    )
    helpful_warnings = Bool("yes", doc="Write what `ekiden check` warns of to the mail log when the server starts.")
    mail_version = Text(__version__, doc="The version of the mail system, for $mail_version in other values.")
    service_name = Text(
        "", doc="For $service_name in an option of master.cf: the name of the service. It cannot be set otherwise."
    )
    process_name = Text(
        "", doc="For $process_name in an option of master.cf: the command of the service. It cannot be set otherwise."
    )
    inet_interfaces = Words(
        "all", doc="The addresses that services of master.cf without an address of their own listen on."
    )
    inet_protocols = Words("ipv4 ipv6", doc="The protocols in use: ipv4, ipv6 or all.")
    mail_owner = Text(
        "ekiden",
        reload=Reload.RESTART,
        doc="The user that the workers run as when the server is started as root.",
    )
    mail_name = Text("Ekiden", doc="The name of the mail system in Received: and the greeting.")
    queue_directory = Text(
        "/var/spool/ekiden",
        reload=Reload.RESTART,
        doc="Where the queue, the maildrop and the control socket lie.",
    )
    config_directory = Text(
        "/etc/ekiden",
        reload=Reload.RESTART,
        doc="The directory of main.cf and master.cf; set by the command line.",
    )
    worker_processes = Int(
        "0",
        maximum=1024,
        reload=Reload.RESTART,
        doc="How many workers run; 0 is one for each CPU that may be used.",
    )
    worker_cpu_affinity = Bool(
        "yes",
        reload=Reload.RESTART,
        doc="Keep each worker on a CPU of its own, where there are enough; say no if other programs keep some busy.",
    )
    stop_timeout = Duration("30s", doc="How long a stop waits for deliveries and sessions in flight.")
    recipient_delimiter = Text("", doc="The characters that part a user name from its extension.")
    virtual_mailbox_domains = Domains(
        "$virtual_mailbox_maps", doc="The domains whose mail is delivered by the virtual transport."
    )
    virtual_mailbox_maps = Tables("", doc="Tables from address to the mailbox below virtual_mailbox_base.")
    virtual_alias_maps = Tables("", doc="Tables that replace recipient addresses by others, for every domain.")
    virtual_alias_expansion_limit = Int("1000", minimum=1, doc="How many addresses one recipient may become.")
    virtual_alias_recursion_limit = Int("1000", minimum=1, doc="How deep aliases may lead to other aliases.")
    virtual_alias_domains = Domains("$virtual_alias_maps", doc="The domains that hold aliases only.")
    relay_domains = Domains(
        "${{$compatibility_level} <level {2} ? {$mydestination} : {}}",
        doc="The domains, beside its own, that this host relays mail to for anybody: none, unless compatibility_level "
        "is below 2.",
    )
    relayhost = Text("", doc="The next hop of all mail that is not for this host, such as [relay.example]:587.")
    transport_maps = Tables("", doc="Tables from recipient address or domain to transport:nexthop.")
