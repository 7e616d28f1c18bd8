"""Inputs that the general rules do not get right, by family, and the families that cannot be measured here."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers_inputs import TOKENS
from transformers_media import BATCH, Inputs


def _forecast(config: PretrainedConfig, given: Inputs) -> Inputs:
    """Features of each time, past and future."""
    length, ahead = given["past_values"].shape[1], config.prediction_length
    return {
        "past_time_features": torch.randn(BATCH, length, config.num_time_features),
        "past_observed_mask": torch.ones_like(given["past_values"]),
        "future_values": torch.randn(BATCH, ahead),
        "future_time_features": torch.randn(BATCH, ahead, config.num_time_features),
    }


def _first_tokens(name: str, count: int, given: Inputs) -> Inputs:
    """A mask over the tokens after the first."""
    mask = torch.zeros_like(given["input_ids"], dtype=torch.bool)
    mask[:, 1 : count + 1] = True
    return {name: mask}


def _tiles(config: PretrainedConfig, given: Inputs) -> Inputs:
    """Images in four tiles each, seen by every token."""
    size, tiles = config.vision_config.image_size, config.vision_config.max_num_tiles
    return {
        "pixel_values": torch.randn(BATCH, 1, tiles, 3, size, size),
        "aspect_ratio_ids": torch.ones(BATCH, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(BATCH, 1, tiles, dtype=torch.long),
        "cross_attention_mask": torch.ones(*given["input_ids"].shape, 1, tiles, dtype=torch.long),
    }


def _codes(config: PretrainedConfig) -> Inputs:
    """A row of codes for each code book of each sound, and what it is to sound like."""
    codes = torch.randint(3, 64, (BATCH * config.num_codebooks, 8))
    return {"input_ids": codes, "encoder_hidden_states": torch.randn(BATCH, 6, config.hidden_size)}


def _with_tokens(words: Tensor, *tokens: tuple[int, int]) -> Tensor:
    """The words after so many of each token."""
    first = [torch.full((BATCH, count), token) for token, count in tokens]
    return torch.cat([words[:, :1], *first, words[:, 1:]], dim=1)


def _heard(words: Tensor) -> Inputs:
    return {"input_ids": words, "attention_mask": torch.ones_like(words)}


def _source_and_target(config: PretrainedConfig, given: Inputs) -> Inputs:
    """A source image each, of 16 patches, and the size of one that is to come."""
    if "pixel_values" not in given:
        return {}
    words = _with_tokens(given["input_ids"][:, -8:], (config.image_token_id, 16))
    return {"input_ids": words, "image_grid_thw": torch.tensor([[1, 4, 4]] * (BATCH + 1)), "mm_token_type_ids": None}


def _spoken(config: PretrainedConfig) -> Inputs:
    """How long each token is, and all else that goes with that: a length that is predicted is no fixed size."""
    return {
        "duration_labels": torch.full((BATCH, TOKENS), 2),
        "spectrogram_labels": torch.randn(BATCH, 2 * TOKENS, config.num_mel_bins),
        "pitch_labels": torch.randn(BATCH, TOKENS, 1),
        "energy_labels": torch.randn(BATCH, TOKENS, 1),
    }


def _masked(config: PretrainedConfig, given: Inputs) -> Inputs:
    """Every other patch of an image hidden."""
    patches = (given["pixel_values"].shape[-1] // config.patch_size) ** 2
    return {"bool_masked_pos": (torch.arange(patches) % 2 == 0).expand(BATCH, -1).clone()}


def _first(words: Tensor) -> Tensor:
    """1 for the first token, 0 for the others."""
    return (torch.arange(words.shape[1]) == 0).long().expand(BATCH, -1).clone()


def _after_image(config: PretrainedConfig, words: Tensor) -> Tensor:
    """The words after as many places as an image has patches."""
    patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    return torch.cat([torch.full((BATCH, patches), config.image_token_id), words], dim=1)


def _merged_patches(config: PretrainedConfig) -> Inputs:
    """Squares of 2 x 2 patches, channels last; four squares an image."""
    side = config.patch_size * config.spatial_merge_size
    return {"pixel_values": torch.randn(BATCH * 4, side, side, 3), "image_grid_thw": torch.tensor([[1, 2, 2]] * BATCH)}


def _flattened(config: PretrainedConfig) -> Tensor:
    """Patches in rows that begin with their row and column, counted from 1."""
    patches = torch.randn(BATCH, 16, config.vision_config.patch_embed_hidden_size)
    rows, columns = torch.meshgrid(torch.arange(1.0, 5), torch.arange(1.0, 5), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=-1).expand(BATCH, -1, -1)
    return torch.cat([places, patches], dim=-1)


def _sound_and_meaning(config: PretrainedConfig, _: Inputs) -> Inputs:
    """Waves of ten frames each, and as many frames of features of what is said."""
    frames = 10
    samples = frames * math.prod(config.downsampling_ratios)
    return {
        "input_values": torch.randn(BATCH, 1, samples),
        "padding_mask": None,
        "input_features_mask": None,
        "input_features": torch.randn(BATCH, frames, config.semantic_model_config.feature_projection_input_dim),
    }


def _waves_of_two_frames(config: PretrainedConfig) -> Tensor:
    """Sounds (batch, channels, samples) of which an encoder makes two latents each."""
    return torch.randn(BATCH, config.channels, 2 * config.hop_length)


def _read_from_others(config: PretrainedConfig, given: Inputs) -> Inputs:
    """Embeddings of two models side by side, and the keys and values of the other by kind of layer."""
    text, length = config.text_config, given["input_ids"].shape[1]
    layers = {kind: text.per_layer_config[text.layer_types.index(kind)] for kind in dict.fromkeys(text.layer_types)}
    shapes = {kind: (BATCH, layer.num_key_value_heads, length, layer.head_dim) for kind, layer in layers.items()}
    return {
        "input_ids": None,
        "inputs_embeds": torch.randn(BATCH, length, 2 * config.backbone_hidden_size),
        "shared_kv_states": {kind: (torch.randn(shape), torch.randn(shape)) for kind, shape in shapes.items()},
    }


_PROMPTED = ("pixel_values", "prompt_pixel_values", "prompt_masks")  # one above the other in an image

# What is given beside what the signature tells; None takes an input away.
INPUTS: dict[str, Callable[[PretrainedConfig, Inputs], Inputs]] = {
    "autoformer": _forecast,
    "blip_2_qformer": lambda config, _: {"encoder_hidden_states": torch.randn(BATCH, 8, config.encoder_hidden_size)},
    "clap": lambda config, _: {"input_features": torch.randn(BATCH, 1, 256, config.audio_config.num_mel_bins)},
    "decision_transformer": lambda config, _: {
        "states": torch.randn(BATCH, 4, config.state_dim),
        "actions": torch.randn(BATCH, 4, config.act_dim),
        "rewards": torch.randn(BATCH, 4, 1),
        "returns_to_go": torch.randn(BATCH, 4, 1),
        "timesteps": torch.arange(4).repeat(BATCH, 1),
    },
    "dia": lambda config, _: {
        "decoder_input_ids": torch.randint(3, 32, (BATCH, 8, config.decoder_config.num_channels))
    },
    "informer": _forecast,
    "kosmos-2": lambda config, given: _first_tokens("image_embeds_position_mask", config.latent_query_num, given),
    "kyutai_speech_to_text": lambda config, _: {
        "input_ids": torch.randint(3, 64, (BATCH, 8, config.num_codebooks + 1))
    },
    "lightglue": lambda config, given: {"pixel_values": torch.stack([given["pixel_values"]] * 2, dim=1)},
    "superglue": lambda config, given: {"pixel_values": torch.stack([given["pixel_values"]] * 2, dim=1)},
    "lxmert": lambda config, _: {
        "visual_feats": torch.randn(BATCH, 4, config.visual_feat_dim),
        "visual_pos": torch.rand(BATCH, 4, config.visual_pos_dim),
    },
    "pop2piano": lambda config, _: {"input_ids": None, "input_features": torch.randn(BATCH, 12, config.d_model)},
    "pix2struct": lambda config, _: {"flattened_patches": _flattened(config)},
    "speech-encoder-decoder": lambda config, _: {"input_values": torch.randn(BATCH, 2000), "input_features": None},
    "idefics": lambda _, given: {"image_attention_mask": torch.ones(*given["input_ids"].shape, 1, dtype=torch.long)},
    "gemma3n_audio": lambda config, _: {
        "audio_mel": torch.randn(BATCH, 32, config.input_feat_size),
        "audio_mel_mask": torch.zeros(BATCH, 32, dtype=torch.bool),
    },
    "mllama": _tiles,
    "omdet-turbo": lambda config, _: {
        "classes_input_ids": torch.randint(3, 100, (2 * BATCH, 6)),
        "classes_attention_mask": torch.ones(2 * BATCH, 6, dtype=torch.long),
        "tasks_input_ids": torch.randint(3, 100, (BATCH, 6)),
        "tasks_attention_mask": torch.ones(BATCH, 6, dtype=torch.long),
        "classes_structure": torch.tensor([2] * BATCH),
    },
    "pi0/base": lambda config, given: {
        "input_ids": _after_image(config.vlm_config, given["input_ids"]),
        "action_embeds": torch.randn(BATCH, 5, config.dit_config.hidden_size),
        "pixel_attention_mask": torch.ones(BATCH, 1, dtype=torch.bool),
    },
    "pi0/head": lambda config, given: {
        "input_ids": _after_image(config.vlm_config, given["input_ids"]),
        "state": torch.randn(BATCH, config.max_state_dim),
        "noise": torch.randn(BATCH, config.chunk_size, config.max_action_dim),
        "timestep": torch.rand(BATCH),
        "pixel_attention_mask": torch.ones(BATCH, 1, dtype=torch.bool),
    },
    "depth_pro": lambda config, given: {
        "pixel_values": torch.randn(BATCH, 3, 4 * config.patch_size, 4 * config.patch_size)
    },
    "fun_asr_nano_encoder": lambda config, given: {
        "input_features_mask": torch.ones(given["input_features"].shape[:2])
    },
    "muse_glimmer_assistant": lambda config, _: {
        "noise_embeds": torch.randn(BATCH, config.block_size, config.hidden_size),
        "context_hidden_states": torch.randn(BATCH, 8, len(config.target_layer_ids) * config.hidden_size),
        "attention_mask": dict.fromkeys(
            config.layer_types, torch.zeros(BATCH, 1, config.block_size, 8 + config.block_size)
        ),
    },
    "muse_spark_audio": lambda config, _: {"input_values": torch.randn(BATCH, 4 * 960)},
    "musicgen": lambda config, given: _codes(config.decoder),
    "musicgen_melody": lambda config, given: _codes(config.decoder),
    "gemma4_audio": lambda config, _: {
        "input_features": torch.randn(BATCH, 32, 128),
        "input_features_mask": torch.ones(BATCH, 32, dtype=torch.bool),
    },
    "neucodec": _sound_and_meaning,
    "xcodec2": _sound_and_meaning,
    "pp_ocrv5_mobile_rec": lambda config, _: {"pixel_values": torch.randn(BATCH, 3, 128, 128)},
    "efficientloftr": lambda config, given: {"pixel_values": torch.stack([given["pixel_values"]] * 2, dim=1)},
    "granite_speech5_ctc": lambda config, _: {
        "input_features": torch.randn(BATCH, 32, 4 * config.encoder_config.num_mel_bins)
    },
    "granite_speech5_encoder": lambda config, _: {"input_features": torch.randn(BATCH, 32, 4 * config.num_mel_bins)},
    "inkling2": lambda config, _: _merged_patches(config.vision_config),
    "inkling2_vision": lambda config, _: _merged_patches(config),
    "voxtral_realtime": lambda config, given: {
        "input_features": torch.randn(BATCH, config.audio_config.num_mel_bins, 8 * given["input_ids"].shape[1])
    },
    "qwen2_audio": lambda config, given: _heard(_with_tokens(given["input_ids"], (config.audio_token_id, 64))),
    "qwen3_asr": lambda config, given: {
        "input_features": torch.randn(BATCH, config.audio_config.num_mel_bins, 100),
        "input_features_mask": torch.ones(BATCH, 100, dtype=torch.long),
    },
    "evolla": lambda config, _: {
        "protein_input_ids": torch.randint(5, 64, (BATCH, 8)),
        "protein_attention_mask": torch.ones(BATCH, 8, dtype=torch.long),
    },
    "glm_image": _source_and_target,
    "inkling_mm_model": lambda config, given: {
        "input_ids": _with_tokens(given["input_ids"], (config.image_token_id, 2), (config.audio_token_id, 4)),
        "pixel_values": torch.randn(BATCH * 2, 2, 40, 40, 3),
        "audio_input_ids": torch.randint(0, 8, (BATCH, 4, config.audio_config.n_mel_bins)),
    },
    "kosmos-2.5": lambda config, given: (
        _first_tokens("image_embeds_position_mask", config.latent_query_num, given)
        | {"flattened_patches": _flattened(config)}
    ),
    "granite_speech": lambda _, given: (
        {"input_features_mask": torch.ones(BATCH, 8, dtype=torch.bool)} if "input_features" in given else {}
    ),
    "granite_speech_plus": lambda _, given: (
        {"input_features_mask": torch.ones(BATCH, 8, dtype=torch.bool)} if "input_features" in given else {}
    ),
    "fastspeech2_conformer": lambda config, _: _spoken(config),
    "fastspeech2_conformer_with_hifigan": lambda config, _: _spoken(config.model_config),
    "dinov2/base": lambda config, given: _masked(config, given),
    "dinov2_with_registers/base": lambda config, given: _masked(config, given),
    "dinov3_vit/base": lambda config, given: _masked(config, given),
    "led": lambda _, given: {"global_attention_mask": _first(given["input_ids"])},
    "longformer": lambda _, given: {"global_attention_mask": _first(given["input_ids"])},
    "luke": lambda config, _: {
        "entity_ids": torch.randint(1, 20, (BATCH, 2)),
        "entity_attention_mask": torch.ones(BATCH, 2, dtype=torch.long),
        "entity_position_ids": torch.arange(4).repeat(BATCH, 2, 1),
    },
    "markuplm": lambda config, given: {
        "xpath_tags_seq": torch.randint(0, 20, (*given["input_ids"].shape, config.max_depth)),
        "xpath_subs_seq": torch.randint(0, 20, (*given["input_ids"].shape, config.max_depth)),
    },
    "mimi_decoder": lambda config, _: {"latents": torch.randn(BATCH, config.hidden_size, 8)},
    "pocket_tts_audio_tokenizer_decoder": lambda config, _: {"latents": torch.randn(BATCH, config.hidden_size, 8)},
    "qwen3_asr_encoder": lambda config, _: {
        "input_features": torch.randn(BATCH, config.num_mel_bins, 100),
        "input_features_mask": torch.ones(BATCH, 100, dtype=torch.long),
    },
    "perceiver/base": lambda config, _: {"inputs": torch.randn(BATCH, 8, config.d_model)},
    "seggpt": lambda _, given: dict.fromkeys(_PROMPTED, torch.randn(BATCH, 3, 64, 64)),
    "video_llama_3_vision": lambda config, _: {"merge_sizes": torch.ones(BATCH, dtype=torch.long)},
    "time_series_transformer": _forecast,
    # Its config has no number of layers, which its cache asks for.
    "blt": lambda _, given: {"use_cache": False},
    "gemma4_unified_assistant": _read_from_others,
    "speecht5/base": lambda config, _: {
        "input_values": torch.randn(BATCH, 8, config.hidden_size),
        "decoder_input_values": torch.randn(BATCH, 6, config.hidden_size),
    },
    "timesfm/base": lambda config, _: {
        "past_values": torch.randn(BATCH, 4 * config.patch_length),
        "past_values_padding": torch.zeros(BATCH, 4 * config.patch_length),
        "freq": torch.tensor([[0], [1]]),
    },
    # Its column embeddings are viewed as if there were as many of them as images: one sample at a time.
    "tvp": lambda _, given: {name: item[:1] for name, item in given.items()},
    "vibevoice_acoustic_tokenizer": lambda config, _: {"input_values": _waves_of_two_frames(config)},
    "vibevoice_acoustic_tokenizer_encoder": lambda config, _: {"hidden_states": _waves_of_two_frames(config)},
    "vibevoice_acoustic_tokenizer_decoder": lambda config, _: {
        "hidden_states": torch.randn(BATCH, config.hidden_size, 2)
    },
    "voxtral_realtime_text": lambda config, _: {"t_cond": torch.randn(1, 1, config.hidden_size)},
}


# Not to be measured here, and why.
SKIPPED: dict[str, str] = {
    "dinat": "needs natten, a C++ extension",
    "layoutlmv2": "needs detectron2, a C++ extension",
    "higgs_audio_v2_tokenizer": "needs torchaudio",
    "bark": "has no forward: its three models are called one after another by generate",
    "glm_image_vqmodel": "has no forward: glm_image calls its methods",
    "qwen2_5_omni": "has no forward: its parts are families of their own",
    "qwen3_omni_moe": "has no forward: its parts are families of their own",
    "gemma4_assistant": "the library asks that all layers share caches, and builds no model of which all do",
    **dict.fromkeys(
        ["edgetam_video", "sam2_video", "sam3_tracker_video", "sam3_video"], "takes a session of a video, not tensors"
    ),
}


def with_what_the_family_needs(family: str, part: str, config: PretrainedConfig, inputs: Inputs) -> Inputs:
    """The inputs, and those that only this family takes."""
    more = INPUTS.get(f"{family}/{part}") or INPUTS.get(family)
    given = inputs | more(config, inputs) if more else inputs
    return {name: item for name, item in given.items() if item is not None}
