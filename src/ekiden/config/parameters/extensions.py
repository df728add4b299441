"""What the extensions of other servers are used for, and what is done where one is missing."""

from __future__ import annotations

from ekiden.config.registry import Bool, Group, Size


class ExtensionParameters(Group):
    smtp_chunking = Bool(
        "yes", doc="Send content by BDAT to servers that offer CHUNKING, which saves a turn; no: by DATA to all."
    )
    lmtp_chunking = Bool("yes", doc="What smtp_chunking is, for LMTP.")
    smtp_early_content_limit = Size(
        "32768",
        doc="Content up to this size goes by BDAT at once, before the server has answered to the recipients; 0: none.",
    )
