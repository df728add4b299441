"""The Authenticated Received Chain: whose word on forwarded mail is taken, and what this server seals."""

from __future__ import annotations

from ekiden.config.registry import Choice, Domains, Group, Text


class ArcParameters(Group):
    arc_trusted_sealers = Domains(
        "",
        doc="Domains of forwarders (d= of their ARC-Seal) whose word is taken: mail that fails DMARC passes where all "
        "who sealed it, from one on that found it good, are in this list. An entry .example.com stands for all below "
        "example.com. Nobody's word is taken by default: who is here can send in anybody's name.",
    )
    arc_seal = Choice(
        "forwarded",
        *("no", "forwarded", "all"),
        doc="Which mail of strangers gets an ARC seal that says what was found of it, where arc_seal_key is set. "
        "forwarded: what goes on to another host; all: what is delivered here too; no: none.",
    )
    arc_seal_key = Text(
        "",
        doc="The key that seals: domain:selector:file, as in dkim_signing_table, but without %. The file is sought in "
        "dkim_key_directory. Empty: nothing is sealed.",
    )
