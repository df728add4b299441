"""Runs every fuzzer for a bounded time or number of inputs: mutated seeds against the law that its docstring states.

    python tests/fuzz/run.py [--seconds 20 | --inputs 10000000] [--seed N] [name ...]

A run of one fuzzer that is ended early (SIGINT, SIGTERM) says how far it came, and the next one begins.
A failing input is printed and written to tests/fuzz/crashes/; add it to the module's SEEDS with the fix.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parent
if str(FOLDER.parent) not in sys.path:
    sys.path.insert(0, str(FOLDER.parent))  # some use tests/support, as tests do
_TOKENS = (
    b"\r\n",
    b"\n",
    b"\r",
    b".",
    b"\r\n.\r\n",
    b"<",
    b">",
    b":",
    b" ",
    b"\t",
    b"\x00",
    b"\xff",
    b'"',
    b"\\",
    b"@",
)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def mutate(seeds: list[bytes], rng: random.Random) -> bytes:
    """A seed with a few cuts, doublings, flips and field tokens."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(0, 8)):
        at = rng.randint(0, len(data))
        match rng.randint(0, 5):
            case 0 if data:
                del data[at : at + rng.randint(1, 8)]
            case 1:
                data[at:at] = rng.choice(_TOKENS)
            case 2 if at < len(data):
                data[at] = rng.randint(0, 255)
            case 3:
                data[at:at] = data[at : at + rng.randint(1, 32)] * rng.randint(1, 4)
            case 4:
                other = rng.choice(seeds)
                cut = rng.randint(0, len(other))
                data[at:at] = other[cut : cut + rng.randint(1, 64)]
            case _:
                data[at:at] = rng.randbytes(rng.randint(1, 4))
    return bytes(data)


def fuzz(module: ModuleType, seconds: float, rng: random.Random, inputs: int = 0) -> tuple[int, bytes | None]:
    """How many inputs were tried, and the one that broke the law if any did. ``inputs`` more than 0: so many."""
    end, tried = time.monotonic() + seconds, 0
    for seed in module.SEEDS:
        try:
            module.one_input(seed)
        except Exception:  # whatever it is, it breaks the law: it is reported
            traceback.print_exc()
            return tried, seed
    try:
        while tried < inputs if inputs else time.monotonic() < end:
            data = mutate(module.SEEDS, rng)
            tried += 1
            try:
                module.one_input(data)
            except Exception:
                traceback.print_exc()
                return tried, data
    except KeyboardInterrupt:  # enough: what was tried counts
        tried -= 1
    return tried, None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--inputs", type=int, default=0, help="how many inputs each, in place of a time")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    broken = 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for path in sorted(FOLDER.glob("fuzz_*.py")):
        if options.names and path.stem.removeprefix("fuzz_") not in options.names:
            continue
        module = load(path)
        tried, failing = fuzz(module, options.seconds, random.Random(seed), options.inputs)
        law = (module.__doc__ or "").splitlines()[0]
        print(
            f"{path.stem}: {tried} inputs, seed {seed}: {'holds' if failing is None else 'BROKEN'}: {law}", flush=True
        )
        if failing is not None:
            broken += 1
            crash = FOLDER / "crashes" / f"{path.stem}-{seed}"
            crash.parent.mkdir(exist_ok=True)
            crash.write_bytes(failing)
            print(f"  {failing!r}\n  written to {crash}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
