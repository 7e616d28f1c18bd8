"""Example inputs for a transformers model, from the signature of its forward and the fields of its config."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers_media import (
    BATCH,
    IMAGES,
    MEDIA,
    SOUNDS,
    Inputs,
    audio,
    field,
    grid,
    inner,
    media_of,
    patches,
    placed,
    vision,
    waves,
    with_images,
    with_sounds,
    with_videos,
)

TOKENS = 12
FIRST_WORD = 64  # tokens below are special


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which media a model is given, and of which kind."""

    media: tuple[str, ...] = tuple(MEDIA)
    images: str = "plain"
    sounds: str = "as configured"
    places: tuple[tuple[str, int], ...] = ()  # how many features a sample has, where the model has said so

    def corrected(self, error: Exception) -> Recipe | None:
        """The recipe with as many places in the text as the model asks for; None if that is not what it says."""
        found = _PLACES.search(str(error))
        if found is None:
            return None
        said = found[1].lower()
        kinds = self.media if said == "multimodal" else (said,)
        kind = next((kind for kind in kinds if kind in self.media and kind not in dict(self.places)), None)
        return replace(self, places=(*self.places, (kind, int(found[2]) // BATCH))) if kind else None


_PLACES = re.compile(r"(\w+) features and (?:\w+ )?tokens do not match, tokens: \d+, features: (\d+)")


def recipes(names: Collection[str]) -> Iterator[Recipe]:
    """What to try for a signature, the most complete first."""
    media = [kind for kind in MEDIA if kind in media_of(names)]
    images = IMAGES if "pixel_values" in names or "pixel_values_videos" in names else IMAGES[:1]
    sounds = SOUNDS if "audio" in media else SOUNDS[:1]
    for count in range(len(media), 0, -1):
        for chosen in combinations(media, count):
            yield from (Recipe(chosen, *kinds) for kinds in product(images, sounds))
    if "input_ids" in names or not media:
        yield Recipe(())


def example(model: nn.Module, config: PretrainedConfig, recipe: Recipe) -> Inputs:
    """Keyword arguments with which the model runs, as far as its signature tells."""
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
    made = {name: item for name, item in made.items() if name not in media_of(names).values()}
    for kind in recipe.media:
        made |= _MEDIA_MAKERS[kind](names, config, recipe)
    if "input_ids" in made:
        made["input_ids"], kinds = placed(model, config, made, dict(recipe.places))
        if "mm_token_type_ids" in names:
            made["mm_token_type_ids"] = kinds
    return made


_MEDIA_MAKERS: dict[str, Callable[[list[str], PretrainedConfig, Recipe], Inputs]] = {
    "image": lambda names, config, recipe: with_images(names, vision(config), recipe.images),
    "video": lambda names, config, recipe: with_videos(names, vision(config), recipe.images),
    "audio": lambda names, config, recipe: with_sounds(names, audio(config), recipe.sounds),
}


def words(config: PretrainedConfig, length: int = TOKENS) -> Tensor:
    """Token ids (batch, tokens), none of them special."""
    vocabulary = int(field(config, "vocab_size", "text_vocab_size", "tgt_vocab_size", default=100))
    return torch.randint(min(FIRST_WORD, vocabulary // 2), vocabulary, (BATCH, length))


# ---------------------------------------------------------------- the rest


def _series(config: PretrainedConfig) -> Tensor:
    length = field(config, "context_length", default=16) + max(field(config, "lags_sequence", default=[0]))
    channels = field(config, "num_input_channels", "input_size", default=1)
    many = channels > 1 or "patch_stride" in vars(config)
    return torch.randn(BATCH, length, channels) if many else torch.randn(BATCH, length)


def _boxes(config: PretrainedConfig) -> Tensor:
    corner = torch.randint(0, 20, (BATCH, TOKENS, 2))
    return torch.cat([corner, corner + 5], dim=-1)


_ALWAYS = frozenset(["bbox"])
_MAKERS: dict[str, Callable[[PretrainedConfig], Any]] = {
    "input_ids": words,
    "bbox": _boxes,
    "grid_thw": grid,
    "hidden_states": patches,
    "input_values": waves,
    "past_values": _series,
    "inputs_embeds": lambda config: torch.randn(BATCH, TOKENS, field(config, "hidden_size", "d_model")),
    "query_embeds": lambda config: torch.randn(BATCH, 8, field(config, "hidden_size")),
    "qformer_input_ids": lambda config: words(inner(config, "qformer_config")),
    "task_inputs": lambda config: torch.randint(0, 40, (BATCH, field(config, "task_seq_len", default=16))),
}
