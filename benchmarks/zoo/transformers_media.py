"""Images, videos and sounds as transformers models take them, and the places of their features in a text.

How a model wants them is not written in its signature: patches in rows or whole images, with tiles or without, time
before or after frequency. So there are several kinds of each, to be tried in turn.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

BATCH, FRAMES, SAMPLES, SIDE = 2, 32, 2000, 4
WAVE = 9600  # of many of the strides that there are a multiple

Inputs = dict[str, Any]
IMAGES = ("plain", "sized", "tiled", "crops", "rows", "patches", "flat patches", "packed", "many crops")
SOUNDS = ("as configured", "time first", "frequency first", "wave")
MEDIA = {"image": "pixel_values", "video": "pixel_values_videos", "audio": "input_features"}


def media_of(names: Collection[str]) -> dict[str, str]:
    """The kinds of media that a signature has, and the name of each; a wave counts where it lies beside a text."""
    found = {kind: name for kind, name in MEDIA.items() if name in names}
    wave = "input_values" in names and "input_ids" in names
    return {"audio": "input_values", **found} if wave else found


def configs(config: PretrainedConfig) -> Iterator[PretrainedConfig]:
    """The config and those inside of it, outermost first."""
    ahead = [config]
    while ahead:
        each = ahead.pop(0)
        yield each
        ahead += [item for item in vars(each).values() if isinstance(item, PretrainedConfig)]


def field(config: PretrainedConfig, *names: str, default: Any = None) -> Any:
    """The first of these fields that the config or one inside of it has."""
    for name in names:
        for each in configs(config):
            value = vars(each).get(name)
            if value is not None and not isinstance(value, PretrainedConfig):
                return value
    return default


def inner(config: PretrainedConfig, *names: str) -> PretrainedConfig:
    """The config of this name inside of another; that itself if it has none."""
    found = (vars(each).get(name) for name in names for each in configs(config))
    return next((each for each in found if isinstance(each, PretrainedConfig)), config)


def vision(config: PretrainedConfig) -> PretrainedConfig:
    return inner(config, "vision_config", "image_config", "vision_tower_config", "vit_config")


def audio(config: PretrainedConfig) -> PretrainedConfig:
    return inner(config, "audio_config", "encoder_config", "audio_encoder_config", "speech_encoder_config")


# ---------------------------------------------------------------- images


def pixels(config: PretrainedConfig) -> Tensor:
    """Images (batch, channels, height, width), or videos (batch, frames, ...) where the config counts frames."""
    height, width = _size(config)
    images = torch.randn(BATCH, channels(config), height, width)
    frames = field(config, "num_frames", "frames_per_clip")
    return images.unsqueeze(1).repeat(1, frames, 1, 1, 1) if frames else images


def videos(config: PretrainedConfig) -> Tensor:
    """Videos (batch, frames, channels, height, width)."""
    images = pixels(config)
    return images if images.dim() == 5 else images.unsqueeze(1).repeat(1, 2, 1, 1, 1)


def channels(config: PretrainedConfig) -> int:
    found = field(config, "num_channels", "in_channels", "in_chans", "num_input_channels", default=3)
    return found if isinstance(found, int) else 3


def _size(config: PretrainedConfig) -> tuple[int, int]:
    size = field(config, "image_size", "img_size", "input_size", "resolution", default=64)
    size = size.get("height", 64) if isinstance(size, dict) else size
    return (size, size) if isinstance(size, int) else tuple(size)[-2:]


def grid(config: PretrainedConfig) -> Tensor:
    """One image of 4 x 4 patches each: (time, height, width) of a batch."""
    return torch.tensor([[1, SIDE, SIDE]] * BATCH)


def patches(config: PretrainedConfig) -> Tensor:
    """The pixels of all patches of a grid, one row per patch."""
    size = field(config, "patch_size", default=8)
    times = field(config, "temporal_patch_size", "patch_temporal", default=1)
    return torch.randn(BATCH * SIDE * SIDE, channels(config) * times * size * size)


def positions(config: PretrainedConfig) -> Tensor:
    """Column and row of each patch (batch, patches, 2)."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], dim=-1).expand(BATCH, -1, -1).clone()


def _images(config: PretrainedConfig, kind: str, names: list[str]) -> Tensor:
    """Pixels of one kind."""
    if kind == "plain" and {"image_grid_thw", "image_grid_hw", "spatial_shapes"} & set(names):
        kind = "rows" if "spatial_shapes" in names else "patches"
    if kind == "plain" and "pixel_attention_mask" in names:
        kind = "crops"
    if kind in ("patches", "rows", "flat patches", "packed"):
        found = patches(config)
        size = field(config, "patch_size", default=8)
        if kind == "packed":  # side by side in one image
            return found.unflatten(1, (-1, size, size))[:, : channels(config)].permute(1, 2, 0, 3).flatten(2)[None]
        if kind == "flat patches":
            return found.unflatten(1, (-1, size, size))[:, : channels(config)]
        return found if kind == "patches" else found.unflatten(0, (BATCH, -1))
    images = pixels(config)
    repeats = {"tiled": 2, "crops": 1, "many crops": 3}.get(kind, 0)
    return images.unsqueeze(1).repeat(1, repeats, *[1] * (images.dim() - 1)) if repeats else images


def _sizes(config: PretrainedConfig) -> Tensor:
    return torch.tensor([list(_size(config))] * BATCH)


# What says how pixels lie, made where the signature has such a name.
_BESIDE_IMAGES: dict[str, Callable[[PretrainedConfig], Any]] = {
    "image_grid_thw": grid,
    "image_grid_hw": lambda config: grid(config)[:, 1:],
    "image_sizes": _sizes,
    "spatial_shapes": lambda config: torch.tensor([[SIDE, SIDE]] * BATCH),
    "pixel_position_ids": positions,
    "image_position_ids": positions,
    "target_sizes": lambda config: torch.tensor([[SIDE, SIDE]] * BATCH),
    "image_merge_sizes": lambda config: torch.ones(BATCH, dtype=torch.long),
    "high_res_pixel_values": lambda config: pixels(inner(config, "high_res_vision_config")),
}
_BESIDE_VIDEOS: dict[str, Callable[[PretrainedConfig], Any]] = {
    "video_grid_thw": grid,
    "video_position_ids": lambda config: positions(config).unsqueeze(1),
    "num_frames_per_video": lambda config: torch.ones(BATCH, dtype=torch.long),
    "target_sizes_videos": lambda config: torch.tensor([[SIDE, SIDE]] * BATCH),
    "video_merge_sizes": lambda config: torch.ones(BATCH, dtype=torch.long),
}


def with_images(names: list[str], config: PretrainedConfig, kind: str) -> Inputs:
    """`pixel_values` and what says how they lie."""
    made: Inputs = {"pixel_values": _images(config, kind, names)}
    shape = made["pixel_values"].shape
    if "pixel_attention_mask" in names:
        size = shape[:2] if kind == "rows" or "spatial_shapes" in names else (*shape[:2], *shape[-2:])
        made["pixel_attention_mask"] = torch.ones(size, dtype=torch.long)
    if "padding_mask" in names and kind == "rows":
        made["padding_mask"] = torch.zeros(shape[:2], dtype=torch.bool)
    for name, make in _BESIDE_IMAGES.items():
        if name in names and (name != "image_sizes" or kind != "plain"):
            made[name] = make(config)
    return made


def with_videos(names: list[str], config: PretrainedConfig, kind: str) -> Inputs:
    """`pixel_values_videos` and what says how they lie."""
    grids = "video_grid_thw" in names
    as_images = {"plain": "patches" if grids else "plain", "crops": "plain"}.get(kind, kind)
    found = videos(config) if as_images in ("plain", "sized", "tiled") else _images(config, as_images, names)
    made: Inputs = {"pixel_values_videos": found}
    return made | {name: make(config) for name, make in _BESIDE_VIDEOS.items() if name in names}


# ---------------------------------------------------------------- sounds


def waves(config: PretrainedConfig) -> Tensor:
    if field(config, "num_mel_bins") and field(config, "max_length"):
        return torch.randn(BATCH, field(config, "max_length"), field(config, "num_mel_bins"))
    if "audio_channels" in vars(config) or field(config, "codebook_size"):
        return torch.randn(BATCH, field(config, "audio_channels", default=1), SAMPLES)
    return torch.randn(BATCH, SAMPLES)


def with_sounds(names: list[str], config: PretrainedConfig, kind: str) -> Inputs:
    """`input_features` and which of their frames are heard, or `input_values` where there are none."""
    if "input_features" not in names:
        shape = (BATCH, 1, WAVE) if kind == "wave" else (BATCH, WAVE)
        heard = {"padding_mask": torch.ones(BATCH, WAVE, dtype=torch.long)} if "padding_mask" in names else {}
        return {"input_values": torch.randn(*shape), **heard}
    bins = field(config, *_BINS, default=16) * field(config, "num_stacked_frames", default=1)
    positions = field(config, "max_source_positions")
    if kind == "as configured":
        kind = "frequency first" if positions and not field(config, "input_feat_per_channel") else "time first"
    length = {"time first": FRAMES, "frequency first": (positions or FRAMES // 2) * 2, "wave": SAMPLES}[kind]
    shape = {"time first": (length, bins), "frequency first": (bins, length), "wave": (length,)}[kind]
    made: Inputs = {"input_features": torch.randn(BATCH, *shape)}
    for mask in ("input_features_mask", "feature_attention_mask", "audio_attention_mask", "padding_mask"):
        if mask in names:
            made[mask] = torch.ones(BATCH, length, dtype=torch.long)
    return made


_BINS = (
    *("feature_projection_input_dim", "input_feat_per_channel", "input_feat_size", "num_mel_bins", "n_mels"),
    *("mel_dim", "input_dim"),
)


# ---------------------------------------------------------------- places in a text


def placed(
    model: nn.Module, config: PretrainedConfig, made: Inputs, counts: dict[str, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Token ids with one placeholder for each feature of an image, a video and a sound after the first token.

    `counts` says of how many features a sample is, by kind, where that is known. Beside the ids, of which kind each
    token is: 0 for text, 1 for an image, 2 for a video, 3 for a sound.
    """
    ids: Tensor = made["input_ids"]
    kinds = torch.zeros_like(ids)
    for number, kind in enumerate(MEDIA, start=1):
        token = placeholder(config, kind)
        known = (counts or {}).get(kind)
        count = 0 if token is None else _features(model, kind, made) if known is None else known
        if count:
            ids = torch.cat([ids[:, :1], torch.full((BATCH, count), token), ids[:, 1:]], dim=1)
            kinds = torch.cat([kinds[:, :1], torch.full((BATCH, count), number), kinds[:, 1:]], dim=1)
    return ids, kinds


def placeholder(config: PretrainedConfig, kind: str) -> int | None:
    """The token that stands for a feature of this kind."""
    names = (f"{kind}_token_id", f"{kind}_token_index", f"{kind}_patch_id")
    return next((vars(each)[name] for each in configs(config) for name in names if vars(each).get(name)), None)


def _features(model: nn.Module, kind: str, made: Inputs) -> int:
    """How many features per sample the model makes of its inputs of this kind; 0 if they cannot be asked for."""
    method = f"get_{kind}_features"
    owner = next((each for each in model.modules() if hasattr(each, method)), None)
    if owner is None:
        return 0
    main = media_of(made).get(kind)
    if main is None:
        return 0
    parameters = inspect.signature(getattr(owner, method)).parameters
    given = {name: item for name, item in made.items() if name in parameters and name != "input_ids"}
    if main not in given:  # a method of another name for them
        first = next(iter(parameters))
        given[first] = made[main]
    if "input_ids" in parameters and parameters["input_ids"].default is inspect.Parameter.empty:
        given["input_ids"] = made["input_ids"]
    try:
        with torch.no_grad():
            out = getattr(owner, method)(**given)
        pooled = getattr(out, "pooler_output", None)
        out = getattr(out, "last_hidden_state", out) if pooled is None else pooled
        tensors = out if isinstance(out, (list, tuple)) else [out]
        return sum(tensor.shape[:-1].numel() for tensor in tensors) // BATCH
    except Exception:  # the family gives the places itself, or the model says what is wrong when it runs
        return 0
