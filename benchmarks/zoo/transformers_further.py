"""Second calls of families whose first does not reach a parameter that other calls read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers_media import BATCH, Inputs

from torch_pruning.trace.tracer import Example

_PLACES = 4


def further(
    family: str, part: str, model: nn.Module, inputs: Inputs, transform: Callable[[Any], Any] | None
) -> list[Example]:
    """The second call of the model, if its family has one here."""
    more, call = FURTHER.get(family), _CALLS.get(f"{family}/{part}") or _CALLS.get(family)
    given = more(model.config, inputs) if more is not None else {}
    return [Example(inputs | given, call, transform)] if given or call else []


def _with_places(inputs: Inputs, token: int) -> Tensor:
    """The words, the first of them replaced by places for something else."""
    words = inputs["input_ids"].clone()
    words[:, 1 : 1 + _PLACES] = token
    return words


def _prompted_by_sound(width: str) -> Callable[[Any, Inputs], Inputs]:
    def inputs(config: Any, given: Inputs) -> Inputs:
        return {
            "input_ids": _with_places(given, config.audio_prompt_token_id),
            "audio_prompt_latents": torch.randn(BATCH, _PLACES, getattr(config, width)),
        }

    return inputs


def _with_audio_codes(config: Any, given: Inputs) -> Inputs:
    codes = torch.randint(0, config.codebook_size, (BATCH, _PLACES, config.num_codebooks))
    return {
        "input_ids": _with_places(given, config.audio_token_id),
        "audio_input_ids": codes,
        "audio_input_ids_mask": torch.ones(BATCH, _PLACES, dtype=torch.bool),
    }


def _seen_and_heard(config: Any, given: Inputs) -> Inputs:
    """An image of one tile beside its overview, and a sound, at places for them among the words."""
    vision, audio = config.vision_config, config.audio_config
    side = vision.image_size // vision.patch_size
    rows = side // 2  # of pooled patches, each of which ends in a place of its own
    places = 2 * rows * (rows + 1) + 1
    words = torch.full((BATCH, places + _PLACES + 2), 10)
    words[:, 1 : 1 + _PLACES] = audio.audio_token_id
    words[:, -1 - places : -1] = vision.image_token_id
    return {
        "input_ids": words,
        "audio_input_features": torch.randn(BATCH, 8 * audio.time_reduction, audio.input_size),
        "audio_embed_sizes": torch.tensor([_PLACES] * BATCH),
        "image_pixel_values": torch.randn(BATCH, 2, 3, vision.image_size, vision.image_size),
        "image_sizes": torch.tensor([[vision.crop_size] * 2] * BATCH),
        "image_attention_mask": torch.ones(BATCH, 2, side, side),
    }


def _last_word_asked(config: Any, given: Inputs) -> Inputs:
    """Which words are to be predicted, seen by none, in two segments."""
    words = given["input_ids"]
    length = words.shape[1]
    hidden, asked = torch.zeros(BATCH, length, length), torch.zeros(BATCH, 1, length)
    hidden[:, :, -1] = asked[:, 0, -1] = 1.0
    return {
        "perm_mask": hidden,
        "target_mapping": asked,
        "token_type_ids": (torch.arange(length) > 4).expand(BATCH, -1).long(),
    }


def _objects(config: Any, given: Inputs) -> Inputs:
    """What is to be found: read in training alone."""
    found = {"class_labels": torch.tensor([0, 1]), "boxes": torch.rand(2, 4) / 4 + 0.25}
    return {"labels": [dict(found) for _ in range(BATCH)]}


def _without_loss(model: nn.Module, inputs: Inputs) -> Any:
    """The model inside of a head: the head would match objects by data."""
    return getattr(model, "model", model)(**inputs)


def _conditioned(model: nn.Module, inputs: Inputs) -> Any:
    """With a composer before the sounds, as when it generates."""
    sounds = model.mel_conditioner(inputs["input_features"], torch.tensor([3] * BATCH), 2)
    return model(input_features=sounds, decoder_input_ids=inputs["decoder_input_ids"])


def _drawn(model: nn.Module, inputs: Inputs) -> Any:
    """A token of an image after others, an image of tokens, and tokens of an image, as when it generates."""
    core = getattr(model, "model", model)
    pixels = core.vqmodel.quantize.quant_state_dims
    tokens = torch.arange(pixels[0] * pixels[1]).expand(BATCH, -1) % core.vqmodel.config.num_embeddings
    hidden = core.language_model(inputs_embeds=core.generation_aligner(core.generation_embeddings(tokens)))
    image = core.vqmodel.decode(tokens)
    return core.generation_head(hidden.last_hidden_state), image, core.vqmodel.encode(inputs["pixel_values"])[0]


def _drawn_of_codes(model: nn.Module, inputs: Inputs) -> Any:
    """An image of its codes, as when it generates."""
    return getattr(model, "model", model).vqmodel.decode(torch.arange(64).reshape(1, 8, 8).expand(BATCH, -1, -1) % 8)


def _heard(model: nn.Module, inputs: Inputs) -> Any:
    """One more moment of sound after a prompt, as when it generates, and how its loss is weighted in training."""
    out = model(**inputs)
    condition = out.last_hidden_state[:, -1]
    sound = model.sample_latent(condition, torch.zeros(BATCH, model.config.latent_dim), 2)
    times = torch.rand(BATCH, 1)
    return out.logits, model.denormalize_latents(sound), model.loss_weighting(times, times)


def _sound(samples: int) -> Tensor:
    return torch.sin(torch.arange(BATCH * samples) / 3.0).view(BATCH, 1, samples)


def _through_codec(model: nn.Module, inputs: Inputs) -> Any:
    """A sound in and out of the codec, as before and after it generates."""
    return model(**inputs).logits, model.codec_model(_sound(3840)).audio_values


def _spoken(model: nn.Module, inputs: Inputs) -> Any:
    """The codes of one frame after a text, as when it generates, and a sound through the codec."""
    hidden = model.backbone_model(inputs_embeds=model.embed_text_tokens(inputs["input_ids"])).last_hidden_state
    codes = torch.ones(BATCH, _PLACES, dtype=torch.long)
    frame = model.depth_decoder(codes, backbone_last_hidden_state=hidden[:, -1]).logits
    return frame, model.codec_model(_sound(3840)).audio_values


def _voiced(model: nn.Module, inputs: Inputs) -> Any:
    """Units of sound in a voice, as when it generates."""
    units = torch.arange(8).expand(BATCH, -1)
    voice = torch.ones(BATCH, 1, dtype=torch.long)
    return model.vocoder(units, voice, voice)[0]


_DETECTORS = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2", "pp_doclayout_v2", "pp_doclayout_v3")

# What the call is given beside what the first one was.
FURTHER: dict[str, Callable[[Any, Inputs], Inputs]] = {
    **dict.fromkeys(_DETECTORS, _objects),
    "gradium_phonon_tts": _prompted_by_sound("audio_prompt_dim"),
    "higgs_audio_v2": _with_audio_codes,
    "phi4_multimodal": _seen_and_heard,
    "pocket_tts": _prompted_by_sound("latent_dim"),
    "sam3_lite_text": lambda _, given: {"input_boxes": torch.rand(BATCH, 2, 4) / 2 + 0.2},
    "sam3": lambda _, given: {"input_boxes": torch.rand(BATCH, 2, 4) / 2 + 0.2},
    "trocr": lambda config, _: {
        "encoder_hidden_states": torch.randn(BATCH, 6, config.cross_attention_hidden_size or config.d_model)
    },
    "visual_bert": lambda config, _: {
        "visual_embeds": torch.randn(BATCH, 4, config.visual_embedding_dim),
        "visual_attention_mask": torch.ones(BATCH, 4, dtype=torch.long),
        "visual_token_type_ids": torch.ones(BATCH, 4, dtype=torch.long),
    },
    "whisper": lambda config, given: (
        {} if "input_features" in given else {"encoder_outputs": (torch.randn(BATCH, 6, config.d_model),)}
    ),
    "xlnet": _last_word_asked,
}
_CALLS: dict[str, Callable[[nn.Module, Any], Any]] = dict.fromkeys(_DETECTORS, _without_loss) | {
    "csm": _spoken,
    "emu3": _drawn_of_codes,
    "gradium_phonon_tts/head": _heard,
    "janus": _drawn,
    "kyutai_speech_to_text/head": _through_codec,
    "pocket_tts/head": _heard,
    "pop2piano": _conditioned,
    "seamless_m4t/base": _voiced,
    "seamless_m4t_v2/base": _voiced,
}
