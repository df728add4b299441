"""What becomes of mail that fails SPF or DMARC: nothing but what the owner of the domain asks for, and no more."""

from __future__ import annotations

import pytest

from ekiden.auth.verdict import DmarcPolicy, DmarcVerdict, Result, SpfVerdict
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.policy.dmarc_decision import NOTHING, Decision, DmarcDecisions
from ekiden.policy.spf_decision import spf_refusal
from ekiden.reports.aggregate import OverrideReason

FLAG = b"X-Spam-Flag: YES\r\n"


def verdict(policy: DmarcPolicy, result: Result = Result.FAIL) -> DmarcVerdict:
    return DmarcVerdict(result, from_domain="x.example", policy=policy, reason="nothing is aligned")


def decide(policy: DmarcPolicy, override: OverrideReason | None = None, **settings: str) -> Decision:
    return DmarcDecisions(Parameters(settings)).decide(verdict(policy), override)


@pytest.mark.parametrize("result", [each for each in Result if each is not Result.FAIL])
@pytest.mark.parametrize("policy", DmarcPolicy)
def test_only_a_failure_has_consequences(policy: DmarcPolicy, result: Result) -> None:
    assert DmarcDecisions(Parameters()).decide(verdict(policy, result), None) is NOTHING


@pytest.mark.parametrize(
    ("goes_to", "asked", "done"),
    [
        ("refuse", "none", "none"),
        ("refuse", "quarantine", "quarantine"),
        ("refuse", "reject", "reject"),
        ("quarantine", "quarantine", "quarantine"),
        ("quarantine", "reject", "quarantine"),
        ("mark", "quarantine", "none"),
        ("mark", "reject", "none"),
    ],
)
def test_the_owner_is_obeyed_as_far_as_dmarc_policy_goes(goes_to: str, asked: str, done: str) -> None:
    decision = decide(DmarcPolicy(asked), dmarc_policy=goes_to)
    assert decision.disposition is DmarcPolicy(done)
    assert (decision.refusal is not None) is (done == "reject")
    assert decision.fields == (FLAG if done == "quarantine" else b"")
    # Reports say why the owner is not obeyed (RFC 9990 §3.1.6).
    assert (decision.reason is None) is (asked == done)
    assert bool(decision.words) is (asked != "none")


def test_the_default_refuses_what_the_owner_asks_to_reject_and_says_why() -> None:
    refusal = decide(DmarcPolicy.REJECT).refusal
    assert refusal is not None
    assert refusal.reply.text == ("550 5.7.26 Message rejected: it fails DMARC, and x.example asks to reject what does")
    assert refusal.detail == "nothing is aligned"


def test_quarantine_can_mean_on_hold() -> None:
    decision = decide(DmarcPolicy.QUARANTINE, dmarc_quarantine_action="hold")
    assert (decision.hold, decision.fields) == ("fails DMARC, and x.example asks to quarantine what does", b"")


def test_the_field_of_quarantine_is_the_administrators() -> None:
    assert decide(DmarcPolicy.QUARANTINE, dmarc_quarantine_header="X-Junk: dmarc").fields == b"X-Junk: dmarc\r\n"
    assert decide(DmarcPolicy.QUARANTINE, dmarc_quarantine_header="").fields == b""
    for wrong in ("no field", "A: b\r\nC: d", "X-Junk: é"):
        with pytest.raises(ConfigError, match="must be one header field"):
            DmarcDecisions(Parameters({"dmarc_quarantine_header": wrong}))


def test_a_reason_of_our_own_lets_it_pass_and_is_told() -> None:
    reason = OverrideReason("local_policy", "a list of ours")
    decision = decide(DmarcPolicy.REJECT, reason)
    assert (decision.disposition, decision.reason, decision.refusal) == (DmarcPolicy.NONE, reason, None)
    assert decision.words == "x.example asks to reject, passed: local_policy a list of ours"


def spf(result: Result, explanation: str = "") -> SpfVerdict:
    return SpfVerdict(result, domain="x.example", explanation=explanation, reason="-all matched")


@pytest.mark.parametrize("policy", ["none", "mark"])
@pytest.mark.parametrize("result", Result)
def test_spf_that_only_marks_refuses_nothing(policy: str, result: Result) -> None:
    assert spf_refusal(spf(result), policy) is None


@pytest.mark.parametrize(
    ("policy", "result", "answer"),
    [
        ("refuse", Result.FAIL, "550 5.7.23 x.example says that this host may not send its mail (SPF)"),
        ("soft-refuse", Result.FAIL, "451 4.7.23 x.example says that this host may not send its mail (SPF)"),
        ("refuse", Result.TEMPERROR, "451 4.7.24 SPF of x.example cannot be checked now"),
        ("soft-refuse", Result.TEMPERROR, "451 4.7.24 SPF of x.example cannot be checked now"),
        ("refuse", Result.SOFTFAIL, None),
        ("refuse", Result.PERMERROR, None),
        ("refuse", Result.NONE, None),
        ("refuse", Result.PASS, None),
    ],
)
def test_spf_refuses_failures_and_has_clients_come_back_for_what_dns_cannot_say(
    policy: str, result: Result, answer: str | None
) -> None:
    refusal = spf_refusal(spf(result), policy)
    assert (None if refusal is None else refusal.reply.text) == answer


def test_what_the_domain_explains_is_told_as_its_own_words() -> None:
    refusal = spf_refusal(spf(Result.FAIL, "see http://x.example/why"), "refuse")
    assert refusal is not None
    assert refusal.reply.text.endswith("(SPF); x.example explains: see http://x.example/why")
