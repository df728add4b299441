"""Delivery into mailboxes (local(8), virtual(8))."""

from __future__ import annotations

from ekiden.config.registry import Group


class DeliveryParameters(Group):
    pass
