"""Every fuzzer's law holds for its seeds and a bounded number of mutations of them; `make fuzz` goes on for longer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzz.run import FOLDER, load, mutate

MUTATIONS = 1500


@pytest.mark.parametrize("path", sorted(FOLDER.glob("fuzz_*.py")), ids=lambda path: path.stem)
def test_the_law_holds(path: Path) -> None:
    module = load(path)
    rng = random.Random(20261122)
    for data in [*module.SEEDS, *(mutate(module.SEEDS, rng) for _ in range(MUTATIONS))]:
        module.one_input(data)
