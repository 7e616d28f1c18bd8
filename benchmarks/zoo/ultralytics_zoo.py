"""ultralytics: every family and task from its yaml. The smallest scale is executed, the others are traced."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # it writes a settings file when imported
os.environ.setdefault("YOLO_VERBOSE", "False")

import torch
import ultralytics
import yaml
from case import Built, Case
from ultralytics.nn import tasks

from torch_pruning.trace.tracer import Example

PACKAGES = ("torch", "ultralytics")
SIZE = 128

# Part of a file's name -> the class that ultralytics makes of it, the first that fits.
CLASSES: list[tuple[str, Any]] = [
    ("rtdetr", tasks.RTDETRDetectionModel),
    ("world", tasks.WorldModel),
    ("yoloe-", tasks.YOLOEModel),
    ("-cls", tasks.ClassificationModel),
    ("-depth", tasks.DepthModel),
    ("-obb", tasks.OBBModel),
    ("-pose", tasks.PoseModel),
    ("-seg", tasks.SegmentationModel),
    ("-sem", tasks.SemanticSegmentationModel),
    ("", tasks.DetectionModel),
]


def cases() -> list[Case]:
    found = []
    for path in sorted((Path(ultralytics.__file__).parent / "cfg" / "models").glob("*/*.yaml")):
        scales = list(yaml.safe_load(path.read_text()).get("scales") or [""])
        for scale in scales:
            name = f"{path.stem}{f' ({scale})' if len(scales) > 1 else ''}"
            build = partial(_build, path, scale)
            found.append(Case(name, path.parent.name, build, executed=scale == scales[0]))
    return found


def _build(path: Path, scale: str) -> Built:
    config = yaml.safe_load(path.read_text()) | {"scale": scale}
    seg = tasks.YOLOESegModel if path.stem.startswith("yoloe-") and path.stem.endswith("-seg") else None
    kind = seg or next(kind for part, kind in CLASSES if part in path.stem)
    model = kind(config, verbose=False).eval()
    # Two images: for one, torch's backward of batch norm gives wrong gradients on the CPU where they come in permuted,
    # as behind a concatenation of flattened maps or an attention over pixels.
    images = torch.rand(2, 3, SIZE, SIZE)
    examples, note = [Example(images)], f"{SIZE} x {SIZE} pixels"
    if isinstance(model, tasks.YOLOEModel):
        # Of its 80 classes half are named by embeddings of texts, and half shown by masks on the finest map.
        prompts = {"tpe": torch.randn(2, 40, 512), "vpe": torch.rand(2, 40, SIZE // 8, SIZE // 8).round()}
        examples.append(Example({"x": images, **prompts}))
        note += ", without prompts and with them"
    return Built(model, tuple(examples), note)
