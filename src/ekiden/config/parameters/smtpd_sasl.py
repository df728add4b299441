"""Login to the SMTP server (SASL_README; RFC 4954)."""

from __future__ import annotations

from ekiden.config.registry import Bool, Clients, Group, Int, Size, SomeOf, Tables, Text, Words

SECURITY_OPTIONS = ("noanonymous", "noplaintext", "nodictionary", "noactive", "forward_secrecy", "mutual_auth")


class SmtpdSaslParameters(Group):
    smtpd_sasl_auth_enable = Bool("no", doc="Let clients log in (AUTH). The first thing that submission needs.")
    smtpd_tls_auth_only = Bool(
        "yes",
        doc="Let clients log in only when TLS is on. no: in clear text too, where all on the way can read along.",
    )
    smtpd_sasl_security_options = SomeOf(
        "noanonymous",
        SECURITY_OPTIONS,
        doc="What a mechanism must be worth to be offered without TLS: noplaintext (the password itself is not sent), "
        "noactive, nodictionary (attacks that it withstands), mutual_auth (it shows the client that the server is the "
        "right one), forward_secrecy, noanonymous.",
    )
    smtpd_sasl_tls_security_options = SomeOf(
        "$smtpd_sasl_security_options", SECURITY_OPTIONS, doc="The same, when TLS is on."
    )
    smtpd_sasl_mechanism_filter = Words(
        "!external, static:rest",
        doc="Which of the mechanisms that are there may be offered: names, tables of names, ! for an exception; the "
        "first that fits decides.",
    )
    smtpd_sasl_local_domain = Text("", doc="What a login name without @ is completed with, after an @; empty: nothing.")
    smtpd_sasl_exceptions_networks = Clients(
        "", doc="Clients that are not offered AUTH: those that try it and cannot do it."
    )
    smtpd_sasl_authenticated_header = Bool(
        "no", doc="Say in the Received: field who has logged in: (Authenticated sender: name)."
    )
    smtpd_sasl_response_limit = Size(
        "12288", minimum=512, doc="The most bytes of AUTH and of what follows it, the line end included (RFC 4954 §4)."
    )
    smtpd_sasl_service = Text("smtp", doc="The name of the service as mechanisms and Dovecot know it.")
    smtpd_sasl_certificate_maps = Tables(
        "",
        doc="Tables that say which account the certificate of a client is for (EXTERNAL). They are asked for its "
        "fingerprint and that of its key and, when a trusted authority has made it, for its e-mail addresses and name.",
    )
    broken_sasl_auth_clients = Bool("no", doc="Offer AUTH= beside AUTH, for clients that know the old form only.")
    smtpd_client_auth_rate_limit = Int(
        "0", doc="How many AUTH commands one client may give in an anvil_rate_time_unit; 0 sets no limit."
    )
