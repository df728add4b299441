"""Login at other servers (smtp(8), SASL_README): the lmtp parameters mean for LMTP what their smtp twins mean."""

from __future__ import annotations

from ekiden.config.registry import Bool, Duration, Group, SomeOf, Tables, Text, Words

_OPTIONS = ("noplaintext", "noactive", "nodictionary", "noanonymous", "mutual_auth", "forward_secrecy")
_TWIN = "What the smtp_ parameter of this name is, for LMTP."


class SmtpSaslParameters(Group):
    smtp_sasl_auth_enable = Bool("no", doc="Log in to servers that smtp_sasl_password_maps has an account for.")
    lmtp_sasl_auth_enable = Bool("no", doc=_TWIN)
    smtp_sasl_password_maps = Tables(
        "",
        doc="Tables from a sender (smtp_sender_dependent_authentication), the name of a server, or a next hop as "
        "routes write it, to user:password. For OAuth the password is a token.",
    )
    lmtp_sasl_password_maps = Tables("", doc=_TWIN)
    smtp_sasl_password_result_delimiter = Text(":", doc="What stands between user and password in those tables.")
    lmtp_sasl_password_result_delimiter = Text(":", doc=_TWIN)
    smtp_sender_dependent_authentication = Bool("no", doc="smtp_sasl_password_maps is asked for the sender first.")
    lmtp_sender_dependent_authentication = Bool("no", doc=_TWIN)
    smtp_sasl_mechanism_filter = Words(
        "", doc="Mechanisms that may be used, !mechanism, /files and tables; empty: all that are known."
    )
    lmtp_sasl_mechanism_filter = Words("", doc=_TWIN)
    smtp_sasl_security_options = SomeOf(
        "noplaintext, noanonymous",
        _OPTIONS,
        doc="What a mechanism must not be without TLS: plaintext (the password passes as it is), dictionary, active, "
        "anonymous; or must be: mutual_auth, forward_secrecy.",
    )
    lmtp_sasl_security_options = SomeOf("noplaintext, noanonymous", _OPTIONS, doc=_TWIN)
    smtp_sasl_tls_security_options = SomeOf(
        "$smtp_sasl_security_options", _OPTIONS, doc="The same, in an encrypted session."
    )
    lmtp_sasl_tls_security_options = SomeOf("$lmtp_sasl_security_options", _OPTIONS, doc=_TWIN)
    smtp_sasl_tls_verified_security_options = SomeOf(
        "$smtp_sasl_tls_security_options",
        _OPTIONS,
        doc="The same, in an encrypted session whose server has shown who it is.",
    )
    lmtp_sasl_tls_verified_security_options = SomeOf("$lmtp_sasl_tls_security_options", _OPTIONS, doc=_TWIN)
    smtp_sasl_auth_soft_bounce = Bool(
        "yes", doc="Mail waits when a login is refused for good; no: it goes back to its sender."
    )
    lmtp_sasl_auth_soft_bounce = Bool("yes", doc=_TWIN)
    smtp_sasl_auth_cache_name = Text(
        "",
        doc="Logins that a server refused (535) are not tried again for smtp_sasl_auth_cache_time: any name, such as "
        "Postfix's, will do, for each worker remembers them in memory.",
    )
    lmtp_sasl_auth_cache_name = Text("", doc=_TWIN)
    smtp_sasl_auth_cache_time = Duration("90d", unit="d", doc="How long a refused login is remembered.")
    lmtp_sasl_auth_cache_time = Duration("90d", unit="d", doc=_TWIN)
    smtp_send_dummy_mail_auth = Bool("no", doc="Say AUTH=<> with MAIL FROM where we have logged in.")
    lmtp_send_dummy_mail_auth = Bool("no", doc=_TWIN)
