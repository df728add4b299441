"""Sending mail by SMTP and LMTP (smtp(8), lmtp(8))."""

from __future__ import annotations

from ekiden.config.registry import Group


class SmtpParameters(Group):
    pass
