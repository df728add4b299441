"""Whether lists of restrictions keep strangers from relaying, whatever else they say.

A stranger is a client that no permit_... with a condition on the client knows: not one of mynetworks, not logged in,
without a certificate. Restrictions that may or may not refuse are no guard.
"""

from __future__ import annotations

from collections.abc import Sequence

from ekiden.policy.restriction_parser import Restriction

# What ends, for a stranger with a recipient elsewhere, in a refusal.
_GUARDS = frozenset({"reject", "defer", "defer_if_permit", "reject_unauth_destination", "defer_unauth_destination"})


def is_guarded(*lists: Sequence[Restriction]) -> bool:
    """Whether one of the lists refuses strangers: each list that is passed leads to the next."""
    return any(_outcome(restrictions) for restrictions in lists)


def _outcome(restrictions: Sequence[Restriction]) -> bool | None:
    """True: refused; False: permitted, so that the rest of the list is not looked at; None: at its end."""
    only_warns = False
    for restriction in restrictions:
        if restriction.name == "warn_if_reject":
            only_warns = True
            continue
        if restriction.name == "permit":
            return False
        if restriction.members:
            inner = _outcome(restriction.members)
            if inner is False or (inner is True and not only_warns):
                return inner
        elif restriction.name in _GUARDS and not only_warns:
            return True
        only_warns = False
    return None
