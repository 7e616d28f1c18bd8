"""tests/zoo/sample.csv: somewhat over 100 small models that were exact, drawn from all families of all zoos.

    python benchmarks/zoo/sample.py [--seed 0]         # draw them anew from the tables that there are
    python benchmarks/zoo/sample.py --measure          # measure anew how much of those in it can be pruned

Each zoo has its number. Families that once were wrong come first; then families take turns in an order that the seed
decides, and of each family one model at random.
"""

from __future__ import annotations

import argparse
import csv
import random

from coverage import ROOT, Row, Table, tables

SAMPLE = ROOT / "tests" / "zoo" / "sample.csv"
COLUMNS = ["zoo", "model", "prunable_share"]
COUNTS = {
    "torchvision": 16,
    "timm": 30,
    "transformers": 46,
    "diffusers": 12,
    "ultralytics": 10,
    "torchaudio": 3,
    "torch_geometric": 6,
}
# Of what runs in a few seconds.
MOST_PARAMETERS = 15_000_000
MOST_OPS = 600

# What the engine once got wrong, or could not do.
BROKE_BEFORE = {
    "torchvision": "ssdlite320_mobilenet_v3_large lraspp_mobilenet_v3_large swin_t convnext_tiny",
    "timm": "efficientvim_m1 xcit_nano_12_p16_224 levit_128s swin_tiny_patch4_window7_224",
    "transformers": """
        llava/head aya_vision/head bart/head mbart/head marian/head reformer/head rwkv/head deberta-v2/head xlnet/head
        mpnet/head convbert/head nystromformer/head esm/head cpmant/head wavlm/head wav2vec2-conformer/head
        data2vec-audio/head parakeet_tdt/head audio-spectrogram-transformer/head dinov2/head dinov3_vit/head beit/head
        deit/head yolos/head vivit/head vjepa2/head poolformer/head clip/head glm4/head chameleon/head deepseek_v2/base
        dia/base phi4_multimodal/base siglip2/head siglip2/base slanext/head
    """,
    "ultralytics": "yolo12|(n) yolo26|(n) yoloe-v8-seg|(n)",
}


def candidates(table: Table) -> dict[str, list[Row]]:
    """The small models that were exact, by family."""
    found: dict[str, list[Row]] = {}
    for row in table.of("exact"):
        if int(row["parameters"]) <= MOST_PARAMETERS and int(row["ops"]) <= MOST_OPS:
            found.setdefault(row["family"], []).append(row)
    return found


def draw(table: Table, count: int, seed: int) -> list[Row]:
    """What broke before; then family after family, then the same again for a second of each."""
    generator = random.Random(f"{table.zoo} {seed}")
    before = [name.replace("|", " ") for name in BROKE_BEFORE.get(table.zoo, "").split()]
    drawn = [row for row in table.of("exact") if row["model"] in before]
    strata = [rows for family, rows in sorted(candidates(table).items()) if not any(row in drawn for row in rows)]
    generator.shuffle(strata)
    for rows in strata:
        generator.shuffle(rows)
    turns = max((len(rows) for rows in strata), default=0)
    drawn += [rows[turn] for turn in range(turns) for rows in strata if turn < len(rows)]
    return sorted(drawn[:count], key=lambda row: row["model"])


def measured(zoo: str, model: str) -> Row:
    """The row of one model, measured now."""
    from measure import Options, measure
    from run import load

    case = next(case for case in load(zoo).cases() if case.name == model)
    return {key: str(value) for key, value in measure(case, Options()).items()}


def write(rows: list[tuple[str, Row]]) -> None:
    with SAMPLE.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([zoo, row["model"], row["prunable_share"]] for zoo, row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", action="store_true", help="keep the models, measure their shares anew")
    options = parser.parse_args()
    if options.measure:
        with SAMPLE.open(newline="") as file:
            names = [(row["zoo"], row["model"]) for row in csv.DictReader(file)]
        write([(zoo, measured(zoo, model)) for zoo, model in names])
    else:
        write([(table.zoo, row) for table in tables() for row in draw(table, COUNTS[table.zoo], options.seed)])


if __name__ == "__main__":
    main()
