"""What the extensions of other servers are used for, and what is done where one is missing."""

from __future__ import annotations

from ekiden.config.registry import Bool, Duration, Group, Int, Size, Words


class ExtensionParameters(Group):
    smtp_chunking = Bool(
        "yes", doc="Send content by BDAT to servers that offer CHUNKING, which saves a turn; no: by DATA to all."
    )
    lmtp_chunking = Bool("yes", doc="What smtp_chunking is, for LMTP.")
    smtp_early_content_limit = Size(
        "32768",
        doc="Content up to this size goes by BDAT at once, before the server has answered to the recipients; 0: none.",
    )

    smtp_send_xforward_command = Bool(
        "no", doc="Tell servers that offer XFORWARD (content filters) which client a message came from."
    )
    lmtp_send_xforward_command = Bool("no", doc="What smtp_send_xforward_command is, for LMTP.")
    smtp_xforward_timeout = Duration("300s", minimum=1, doc="How long a server may take to answer XFORWARD.")
    lmtp_xforward_timeout = Duration("300s", minimum=1, doc="What smtp_xforward_timeout is, for LMTP.")

    # MIME (RFC 2045): what a server without 8BITMIME or BINARYMIME gets.
    disable_mime_output_conversion = Bool(
        "no", doc="Send 8-bit content as it is to servers without 8BITMIME; no: as quoted-printable or base64."
    )
    disable_mime_input_processing = Bool(
        "no",
        doc="Do not look into content: it counts as 8-bit only if its client said so (BODY=), and only then it is "
        "converted for servers without 8BITMIME.",
    )
    mime_nesting_limit = Int(
        "100",
        minimum=1,
        doc="How deep parts may lie in parts in a message that is converted; deeper ones are returned.",
    )
    mime_boundary_length_limit = Size(
        "2048", minimum=1, doc="Boundaries of parts are told apart by this many bytes of their beginning."
    )

    # International addresses and headers (RFC 6531).
    smtputf8_autodetect_classes = Words(
        "sendmail, verify",
        doc="Where mail that needs SMTPUTF8 counts as such though nobody asked for it: sendmail, smtpd, or all.",
    )
