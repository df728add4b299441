"""The running server takes reports of others by mail, gives back what is none, and `ekiden reports` tells of them."""

from __future__ import annotations

import gzip
import json
import smtplib
import time
from email.message import EmailMessage

from support.requirements import require_conformance
from support.running import RunningServer, running_server

XML = """<?xml version="1.0"?>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0"><version>1.0</version>
 <report_metadata><org_name>receiver.test</org_name><email>dmarc@receiver.test</email><report_id>{number}</report_id>
  <date_range><begin>{begin}</begin><end>{end}</end></date_range></report_metadata>
 <policy_published><domain>our.test</domain><p>reject</p></policy_published>
 <record><row><source_ip>203.0.113.7</source_ip><count>12</count>
   <policy_evaluated><disposition>reject</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row>
  <identifiers><envelope_from>our.test</envelope_from><header_from>our.test</header_from></identifiers>
  <auth_results><spf><domain>our.test</domain><scope>mfrom</scope><result>fail</result></spf></auth_results></record>
</feedback>"""


def aggregate(number: int) -> bytes:
    end = int(time.time()) - 3600
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "dmarc@receiver.test", "rua@our.test", "Report Domain: our.test"
    mail.set_content("This is an aggregate report.")
    packed = gzip.compress(XML.format(number=number, begin=end - 86400, end=end).encode())
    mail.add_attachment(packed, "application", "gzip", filename="receiver.test!our.test!1!2.xml.gz")
    return mail.as_bytes().replace(b"\n", b"\r\n")


def send(server: RunningServer, *contents: bytes) -> None:
    """Each is delivered, or given back, before the next."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        for content in contents:
            client.sendmail("s@receiver.test", ["rua@our.test"], content)


def test_reports_come_by_mail_and_are_told_of() -> None:
    settings = {
        "mynetworks": "127.0.0.0/8",
        "transport_maps": "inline:{ { rua@our.test = reports: }, { receiver.test = discard: } }",
    }
    failure = require_conformance("dmarc", "failure", "parsedmarc", "dmarc_ruf_report_linkedin.crlf.eml").read_bytes()
    failure = failure.partition(b"\n")[2]  # without the line of a mailbox file
    with running_server(main_cf=settings) as server:
        assert server.command("reports").stdout == "no report came in the last 7 days\n"
        send(server, aggregate(1), aggregate(2), aggregate(1), failure, b"Subject: hello\r\n\r\nNo report.\r\n")
        server.wait_for_log("aggregate report '2' on our.test kept)")
        server.wait_for_log("aggregate report '1' on our.test kept before)")
        server.wait_for_log("report auth-failure on example.com kept)")
        server.wait_for_log("dsn=5.6.0, status=bounced (the message holds no report)")
        done = server.command("reports")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "Domains",
            "  our.test: 24 messages in 2 reports of 1 receiver, 0 authentic (0.0 %); policy reject",
            "",
            "Who sends in your name and fails",
            "  203.0.113.7 sends as our.test and fails SPF and DKIM: not in your record, no signature; 24 messages, "
            "24 refused (receiver.test)",
            "",
            "Failure reports",
            "  10.10.10.10 sends as example.com and fails dmarc: 1 failure report (receiver.test)",
        ]
        lines = server.command("reports", "--domain", "our.test", "--json").stdout.splitlines()
        assert {json.loads(line)["kind"] for line in lines} == {"domain", "source"}
        folder = server.queue / "reports"
        assert {path.stat().st_uid for path in folder.iterdir()} == {folder.stat().st_uid}
