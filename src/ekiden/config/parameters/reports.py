"""The reports that others send us on mail that says it is ours: what is taken and how long it is kept."""

from __future__ import annotations

from ekiden.config.registry import Duration, Group, Int, Size


class ReceivedReportParameters(Group):
    received_report_size_limit = Size(
        "10485760",
        minimum=1024,
        doc="The largest message that the transport reports takes, and the largest file that it holds, packed.",
    )
    received_report_unpacked_limit = Size(
        "52428800", minimum=1024, doc="The most that the reports of one message may have when they are unpacked."
    )
    received_report_record_limit = Int(
        "100000",
        minimum=1,
        doc="The most records that an aggregate report of DMARC may have; with more it is refused.",
    )
    received_report_retention_time = Duration("90d", minimum=3600, doc="How long reports of others are kept.")
    received_report_store_limit = Size(
        "268435456",
        minimum=65536,
        doc="How long the reports of others may be together, unpacked; beyond that the oldest leave first.",
    )
