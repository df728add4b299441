"""The reports that we make on mail that says it is of a domain: aggregate (RFC 9990) and failure reports (RFC 9991)."""

from __future__ import annotations

from ekiden.config.registry import Bool, Duration, Group, Int, Text, Words


class DmarcReportParameters(Group):
    dmarc_aggregate_reports = Bool(
        "yes",
        doc="Count what DMARC finds of mail from others, and send domains that ask for it (rua=) a report a day "
        "(RFC 9990). Nothing is counted of a domain that does not ask, and no report leaves a host that has no domain "
        "of its own.",
    )
    dmarc_report_organization_name = Text("$mydomain", doc="Who we are, in reports of DMARC.")
    dmarc_report_contact_info = Text(
        "postmaster@$mydomain", doc="The address that the readers of our reports of DMARC may write to."
    )
    dmarc_report_extra_contact_info = Text(
        "", doc="What else those readers may want to know, such as the URL of a page."
    )
    dmarc_report_sender = Text(
        "postmaster@$mydomain",
        doc="The sender, in the envelope and in the From: field, of mail that holds a report of DMARC.",
    )
    dmarc_report_excluded_domains = Words(
        "", doc="Domains that get no report of DMARC from us, with all below them, whatever they ask for."
    )
    dmarc_report_delay_limit = Duration(
        "4h", doc="Aggregate reports of a day leave at a random time within this long after its end."
    )
    dmarc_report_record_limit = Int(
        "10000",
        minimum=10,
        doc="The most different records of an aggregate report: more of them on one day are left out, and the report "
        "says how many messages that were.",
    )
    dmarc_report_domain_limit = Int("10000", minimum=10, doc="The most domains of one day that get aggregate reports.")
    dmarc_report_store_limit = Int(
        "200000", minimum=100, doc="The most different records for aggregate reports that are kept, of all domains."
    )
    dmarc_failure_reports = Bool(
        "no",
        doc="Send domains that ask for it (ruf=) a report on a message that fails DMARC (RFC 9991). Such a report "
        "shows others a part of a message that was sent to a user of yours.",
    )
    dmarc_failure_report_redaction = Bool(
        "yes",
        doc="Failure reports hold only the fields of the message's header that tell its way and its signatures, and no "
        "names or local parts of addresses (RFC 6590 §3). With no they hold the whole header. They never hold the "
        "body.",
    )
    dmarc_failure_report_limit = Int("10", doc="The most failure reports to one domain on one day.")
    dmarc_failure_report_total_limit = Int("200", doc="The most failure reports on one day.")
