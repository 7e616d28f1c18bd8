"""All benchmarks with few repetitions: `make bench`. Results go to benchmarks/results/quick, which is not kept.

python benchmarks/run.py
python benchmarks/run.py --upstream FOLDER    # beside Torch-Pruning, see speed.py
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import scaling
import speed

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", type=Path)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "quick")
    options = parser.parse_args()
    repetitions = ["--repetitions", str(options.repetitions)]
    beside = [] if options.upstream is None else ["--upstream", str(options.upstream)]
    speed.main([*repetitions, "--rounds", "1", *beside, "--out", str(options.out / "speed")])
    # The decoders need an extra that `make setup` does not install.
    with_decoders = importlib.util.find_spec("transformers") is not None
    cases = scaling.CASES if with_decoders else [case for case in scaling.CASES if not case.startswith("llama")]
    scaling.main([*repetitions, "--cases", *cases, "--out", str(options.out / "scaling")])
    for name in ("speed", "scaling"):
        print(f"\n{(options.out / name).with_suffix('.md').read_text()}")


if __name__ == "__main__":
    main()
