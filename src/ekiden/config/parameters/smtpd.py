"""Receiving mail by SMTP (smtpd(8))."""

from __future__ import annotations

from ekiden.config.registry import Group


class SmtpdParameters(Group):
    pass
