"""Look for a network on which the engine is wrong: python tests/random_architectures/fuzz.py --examples 3000

Each counterexample is made smaller by hypothesis and printed as a line for `FOUND` in test_random_architectures.py.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))

from random_architectures.law import check
from random_architectures.networks import Network, networks


def run(examples: int, first_seed: int) -> Counter[str]:
    """How often each kind of block was in a network that held; stops at the first counterexample."""
    held: Counter[str] = Counter()

    @seed(first_seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(networks(), st.integers(0, 3))
    def holds(network: Network, weights: int) -> None:
        check(network, weights)
        held.update(["networks", *(block.kind for block in (*network.images, *network.tokens))])

    holds()
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    held = run(options.examples, options.seed)
    print(f"{held.pop('networks')} networks held in {time.perf_counter() - start:.0f} s (seed {options.seed})")
    print(", ".join(f"{kind} {count}" for kind, count in sorted(held.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
