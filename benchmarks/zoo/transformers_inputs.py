"""Example inputs for a transformers model, from the signature of its forward and the fields of its config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

BATCH, TOKENS, FRAMES, SAMPLES, SIDE = 2, 12, 32, 2000, 4
FIRST_WORD = 64  # tokens below are special

Inputs = dict[str, Any]


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
    found = (vars(config).get(name) for name in names)
    return next((each for each in found if isinstance(each, PretrainedConfig)), config)


def vision(config: PretrainedConfig) -> PretrainedConfig:
    return inner(config, "vision_config", "image_config", "vision_tower_config", "vit_config")


def audio(config: PretrainedConfig) -> PretrainedConfig:
    return inner(config, "audio_config", "encoder_config", "audio_encoder_config", "speech_encoder_config")


def example(model: nn.Module, config: PretrainedConfig, images: str = "plain") -> Inputs:
    """Keyword arguments with which the model runs, as far as its signature tells.

    `images` are "plain", "sized" (with `image_sizes`) or "tiled" (several tiles of each, too).
    """
    parameters = inspect.signature(model.forward).parameters
    names = list(parameters)
    main = getattr(model, "main_input_name", "input_ids")
    made: Inputs = {}
    if "input_ids" in names:
        made["input_ids"] = words(config)
    if "decoder_input_ids" in names and (field(config, "is_encoder_decoder") or main != "input_ids"):
        made["decoder_input_ids"] = words(config, 8)
    for name in names:
        required = parameters[name].default is inspect.Parameter.empty
        if (required or name == main or name in _ALWAYS) and name in _MAKERS and name not in made:
            made[name] = _MAKERS[name](config)
    if "pixel_values" in names:
        made |= _images(names, vision(config), images)
    if "input_features" in names and "input_ids" in names:
        made |= _sounds(names, audio(config))
    if "input_ids" in made:
        made["input_ids"] = _with_places(model, config, made)
        if "mm_token_type_ids" in names:
            made["mm_token_type_ids"] = (made["input_ids"] == field(config, "image_token_id", default=-1)).long()
    return made


def words(config: PretrainedConfig, length: int = TOKENS) -> Tensor:
    """Token ids (batch, tokens), none of them special."""
    vocabulary = int(field(config, "vocab_size", "text_vocab_size", "tgt_vocab_size", default=100))
    return torch.randint(min(FIRST_WORD, vocabulary // 2), vocabulary, (BATCH, length))


# ---------------------------------------------------------------- images


def pixels(config: PretrainedConfig) -> Tensor:
    """Images (batch, channels, height, width), or videos (batch, frames, ...) where the config counts frames."""
    size = field(config, "image_size", "img_size", "input_size", "resolution", default=64)
    size = size.get("height", 64) if isinstance(size, dict) else size
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    images = torch.randn(BATCH, _channels(config), height, width)
    frames = field(config, "num_frames", "frames_per_clip")
    return images.unsqueeze(1).repeat(1, frames, 1, 1, 1) if frames else images


def _channels(config: PretrainedConfig) -> int:
    found = field(config, "num_channels", "in_channels", "in_chans", "num_input_channels", default=3)
    return found if isinstance(found, int) else 3


def _grid(config: PretrainedConfig) -> Tensor:
    """One image of 4 x 4 patches each: (time, height, width) of a batch."""
    return torch.tensor([[1, SIDE, SIDE]] * BATCH)


def _patches(config: PretrainedConfig) -> Tensor:
    """The pixels of all patches of a grid, one row per patch."""
    size = field(config, "patch_size", default=8)
    times = field(config, "temporal_patch_size", default=1)
    return torch.randn(BATCH * SIDE * SIDE, _channels(config) * times * size * size)


def _images(names: list[str], config: PretrainedConfig, kind: str) -> Inputs:
    """`pixel_values` and what says how they lie."""
    if "image_grid_thw" in names:
        return {"pixel_values": _patches(config), "image_grid_thw": _grid(config)}
    if "spatial_shapes" in names and "pixel_attention_mask" in names:
        rows = _patches(config).unflatten(0, (BATCH, -1))
        shapes = torch.tensor([[SIDE, SIDE]] * BATCH)
        mask = torch.ones(BATCH, SIDE * SIDE, dtype=torch.long)
        return {"pixel_values": rows, "pixel_attention_mask": mask, "spatial_shapes": shapes}
    if "pixel_attention_mask" in names:
        return {"pixel_values": pixels(config).unsqueeze(1)}
    images = pixels(config)
    if "image_sizes" not in names or kind == "plain":
        return {"pixel_values": images}
    sizes = torch.tensor([list(images.shape[-2:])] * BATCH)
    tiles = images.unsqueeze(1).repeat(1, 2, 1, 1, 1) if kind == "tiled" else images
    return {"pixel_values": tiles, "image_sizes": sizes}


def _with_places(model: nn.Module, config: PretrainedConfig, made: Inputs) -> Tensor:
    """Token ids that begin with one placeholder for each feature of an image, and of a sound."""
    ids: Tensor = made["input_ids"]
    for kind, tokens in (
        ("image", ("image_token_id", "image_token_index")),
        ("audio", ("audio_token_id", "audio_token_index")),
    ):
        token = next((vars(each)[name] for each in configs(config) for name in tokens if vars(each).get(name)), None)
        count = _features(model, f"get_{kind}_features", made) if token is not None else 0
        if count:
            ids = torch.cat([ids[:, :1], torch.full((BATCH, count), token), ids[:, 1:]], dim=1)
    return ids


def _features(model: nn.Module, method: str, made: Inputs) -> int:
    """How many features per sample a method gives for the inputs; 0 if the model has no such method."""
    owner = next((each for each in (model, getattr(model, "model", None)) if hasattr(each, method)), None)
    if owner is None:
        return 0
    parameters = inspect.signature(getattr(owner, method)).parameters
    given = {name: item for name, item in made.items() if name in parameters and name != "input_ids"}
    if not given:
        return 0
    with torch.no_grad():
        out = getattr(owner, method)(**given)
    out = getattr(out, "pooler_output", out)
    tensors = out if isinstance(out, (list, tuple)) else [out]
    return sum(tensor.shape[:-1].numel() for tensor in tensors) // BATCH


# ---------------------------------------------------------------- sounds and series


def _waves(config: PretrainedConfig) -> Tensor:
    if field(config, "num_mel_bins") and field(config, "max_length"):
        return torch.randn(BATCH, field(config, "max_length"), field(config, "num_mel_bins"))
    if "audio_channels" in vars(config) or field(config, "codebook_size"):
        return torch.randn(BATCH, field(config, "audio_channels", default=1), SAMPLES)
    return torch.randn(BATCH, SAMPLES)


def _spectrogram(config: PretrainedConfig) -> Tensor:
    config = audio(config)
    names = ("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "n_mels", "input_dim")
    bins = field(config, *names, default=16)
    positions = field(config, "max_source_positions")
    if positions and not field(config, "input_feat_per_channel"):
        return torch.randn(BATCH, bins, positions * 2)
    return torch.randn(BATCH, FRAMES, bins)


def _sounds(names: list[str], config: PretrainedConfig) -> Inputs:
    made: Inputs = {"input_features": _spectrogram(config)}
    length = max(made["input_features"].shape[1:])
    for mask in ("input_features_mask", "feature_attention_mask"):
        if mask in names:
            made[mask] = torch.ones(BATCH, length, dtype=torch.long)
    return made


def _series(config: PretrainedConfig) -> Tensor:
    length = field(config, "context_length", default=16) + max(field(config, "lags_sequence", default=[0]))
    channels = field(config, "num_input_channels", "input_size", default=1)
    return torch.randn(BATCH, length, channels) if channels > 1 else torch.randn(BATCH, length)


def _boxes(config: PretrainedConfig) -> Tensor:
    corner = torch.randint(0, 20, (BATCH, TOKENS, 2))
    return torch.cat([corner, corner + 5], dim=-1)


_ALWAYS = frozenset(["bbox"])
_MAKERS: dict[str, Callable[[PretrainedConfig], Any]] = {
    "input_ids": words,
    "bbox": _boxes,
    "pixel_values": pixels,
    "pixel_values_videos": pixels,
    "grid_thw": _grid,
    "image_grid_thw": _grid,
    "hidden_states": _patches,
    "input_values": _waves,
    "input_features": _spectrogram,
    "input_features_mask": lambda config: torch.ones(BATCH, FRAMES, dtype=torch.long),
    "past_values": _series,
    "inputs_embeds": lambda config: torch.randn(BATCH, TOKENS, field(config, "hidden_size", "d_model")),
    "query_embeds": lambda config: torch.randn(BATCH, 8, field(config, "hidden_size")),
    "qformer_input_ids": lambda config: words(inner(config, "qformer_config")),
    "task_inputs": lambda config: torch.randint(0, 40, (BATCH, field(config, "task_seq_len", default=16))),
}
