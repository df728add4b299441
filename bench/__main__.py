"""``make bench``: Ekiden and its peer do the same work in one run on one machine; what counts is the ratio.

python -m bench [--quick] [--only relay-4k,maildir-4k,...] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from bench import authentication, encrypted, footprint, signing, work
from bench.authenticating import PostfixWithRspamd, PostfixWithTrustedDomain
from bench.servers import SBIN, Ekiden, Postfix, Server

BASE = Path("/var/tmp/ekiden-bench")
MB = 1_000_000

WORK: dict[str, tuple[str, float, Callable[[Server, int], work.Measured]]] = {
    "relay-4k": (
        "relay, 4 KiB, 50 connections, end to end",
        5.0,
        lambda server, count: work.relay(server, messages=count, size=4096),
    ),
    "relay-256k": (
        "relay, 256 KiB",
        1.5,
        lambda server, count: work.relay(server, messages=max(200, count // 8), size=262_144),
    ),
    "maildir-4k": (
        "delivery to one virtual Maildir, 4 KiB",
        3.0,
        lambda server, count: work.maildir(server, messages=count, size=4096),
    ),
    "submission-tls": (
        "submission with STARTTLS and AUTH PLAIN, 4 KiB (Postfix with Dovecot)",
        3.0,
        lambda server, count: encrypted.submission(server, messages=count // 2),
    ),
    "relay-tls": (
        "relay over TLS, 4 KiB",
        3.0,
        lambda server, count: encrypted.relay(server, messages=count),
    ),
}
OTHERS = ("authenticate", "sign", "idle", "large", "authenticate-large", "banner")


def side_by_side(name: str, count: int, rounds: int) -> bool:
    title, wanted, run = WORK[name]
    ours: list[work.Measured] = []
    theirs: list[work.Measured] = []
    # Turn by turn, and the ratio of each turn: whatever else the machine does hits both.
    for _ in range(rounds):
        theirs.append(run(Postfix(BASE / "postfix"), count // 3))
        ours.append(run(Ekiden(BASE / "ekiden"), count))
        print(
            f"  {name}: {ours[-1].per_second:.0f}/s at {ours[-1].cpu_ms_a_message:.2f} ms CPU,"
            f" Postfix {theirs[-1].per_second:.0f}/s at {theirs[-1].cpu_ms_a_message:.2f} ms",
            flush=True,
        )
    faster = statistics.median(our.per_second / their.per_second for our, their in zip(ours, theirs, strict=True))
    cheaper = statistics.median(
        their.cpu_ms_a_message / our.cpu_ms_a_message for our, their in zip(ours, theirs, strict=True)
    )
    met = faster >= wanted
    print(f"{title}: {faster:.2f} x Postfix (at least {wanted:g}): {_word(met)}", flush=True)
    if name == "relay-4k":
        print(f"CPU of the server a relayed message: 1/{cheaper:.2f} of Postfix's (at most 1/5): {_word(cheaper >= 5)}")
        met = met and cheaper >= 5
    else:
        print(f"  CPU a message: 1/{cheaper:.2f} of Postfix's", flush=True)
    return met


def authenticate(count: int, rounds: int) -> bool:
    """Each server in its turn.

    5,000 messages by 50 connections are a lifetime of Postfix's processes (max_use = 100) and of the policyd-spf of
    each, whose start belongs to its cost.
    """
    names = authentication.names(BASE)
    names.start()
    turns: list[tuple[work.Measured, ...]] = []
    try:
        for _ in range(rounds):
            turns.append(
                (
                    authentication.inbound(PostfixWithTrustedDomain(BASE / "postfix", names), messages=count * 5 // 8),
                    authentication.inbound(PostfixWithRspamd(BASE / "postfix", names), messages=count // 2),
                    authentication.inbound(Ekiden(BASE / "ekiden", names.prefix), messages=count),
                )
            )
            each = zip(("opendkim, opendmarc, policyd-spf", "rspamd", "Ekiden"), turns[-1], strict=True)
            print(
                "  authenticate: "
                + "; ".join(f"{name} {it.per_second:.0f}/s at {it.cpu_ms_a_message:.2f} ms CPU" for name, it in each),
                flush=True,
            )
    finally:
        names.stop()
    met = True
    for at, (peer, wanted) in enumerate(
        (("Postfix with opendkim, opendmarc and policyd-spf", 10), ("Postfix with rspamd", 2))
    ):
        faster = statistics.median(turn[2].per_second / turn[at].per_second for turn in turns)
        cheaper = statistics.median(turn[at].cpu_ms_a_message / turn[2].cpu_ms_a_message for turn in turns)
        enough = faster >= wanted
        met = enough and met
        print(f"SPF, DKIM and DMARC, 10 KiB: {faster:.2f} x {peer} (at least {wanted}): {_word(enough)}")
        print(f"  CPU a message: 1/{cheaper:.2f}", flush=True)
    return met


def sign() -> bool:
    it = signing.signing()
    faster, dearer = it.dkimpy_s / it.ours_s, it.ours_s / it.bare_s
    met = faster >= 10
    print(f"DKIM signature of rsa-2048 in {it.ours_s * 1e6:.0f} us: {faster:.1f} x dkimpy (at least 10): {_word(met)}")
    return absolute("  its time in that of the bare signature", dearer, 1.3, "x") and met


def authenticate_large() -> bool:
    names = authentication.names(BASE)
    names.start()
    try:
        large = authentication.large(Ekiden(BASE / "ekiden", names.prefix))
    finally:
        names.stop()
    title = (
        f"{large.clients // 2} messages of {large.size // MB} MB verified and as many signed"
        f" ({large.seconds:.1f} s), memory a worker"
    )
    return absolute(title, large.added_bytes_a_worker / MB, 64, "MB")


def _checked(name: str, run: Callable[[], bool]) -> bool:
    try:
        return run()
    except authentication.NotChecked as error:
        print(f"{name}: {error}: NOT MET", flush=True)
        return False


def _word(met: bool) -> str:
    return "met" if met else "NOT MET"


def absolute(title: str, value: float, limit: float, unit: str) -> bool:
    print(f"{title}: {value:.2f} {unit} (at most {limit:g}): {_word(value <= limit)}", flush=True)
    return value <= limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer messages, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=8000)
    parser.add_argument("--only", default="", help="names, separated by commas")
    options = parser.parse_args()
    if os.geteuid() != 0 or not (SBIN / "postfix").exists():
        print("the benchmark needs root and Debian's postfix package: its ratios are to Postfix", file=sys.stderr)
        return 69
    count, rounds = (2000, 1) if options.quick else (options.messages, options.rounds)
    chosen = options.only.split(",") if options.only else [*WORK, *OTHERS]
    BASE.mkdir(parents=True, exist_ok=True)
    BASE.chmod(0o755)
    met = True
    try:
        for name in chosen:
            if name in WORK:
                met = side_by_side(name, count, rounds) and met
            elif name == "authenticate":
                met = _checked(name, lambda: authenticate(count, rounds)) and met
            elif name == "sign":
                met = sign() and met
            elif name == "authenticate-large":
                met = _checked(name, authenticate_large) and met
            elif name == "idle":
                idle = footprint.idle_sessions(Ekiden(BASE / "ekiden"))
                met = absolute(f"{idle.sessions} idle sessions, memory", idle.added_bytes / MB, 100, "MB") and met
            elif name == "large":
                large = footprint.large_messages(Ekiden(BASE / "ekiden"))
                title = (
                    f"{large.clients} clients of {large.size // MB} MB each ({large.seconds:.1f} s), memory a worker"
                )
                met = absolute(title, large.added_bytes_a_worker / MB, 64, "MB") and met
            elif name == "banner":
                seconds = statistics.median(footprint.seconds_to_banner(Ekiden(BASE / "ekiden")) for _ in range(5))
                met = absolute("ekiden serve to first banner", seconds, 1.0, "s") and met
            else:
                print(f"there is no benchmark {name!r}", file=sys.stderr)
                return 64
    finally:
        shutil.rmtree(BASE, ignore_errors=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
