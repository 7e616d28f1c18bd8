"""What the general rules for tiny configs and inputs do not get right, by family."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

_FOUR_LEVELS: dict[str, Any] = {"backbone_config": {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]}}

# Fields of the config; those of a nested config in a dict under its name.
CONFIGS: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "blip-2": {"image_token_id": 5},
    "chameleon": {"vocabulary_map": {"<image>": 4, "IMGIMGAAAZ": 5, "IMGIMGBAZ": 6}},
    "depth_anything": _FOUR_LEVELS,
    "dpt": {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3]},
    "emu3": {"vocabulary_map": {"<image>": 4, "<|extra_200|>": 5, "<|visual token 000000|>": 6}},
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "instructblip": {"image_token_id": 5},
    "instructblipvideo": {"video_token_id": 5},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"mamba_num_heads": 8, "mamba_head_dim": 8},
    "prompt_depth_anything": _FOUR_LEVELS,
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [2, 6]},
    "rt_detr": {"encoder_in_channels": [128, 256, 512], "decoder_in_channels": [32, 32, 32]},
    "rt_detr_v2": {"encoder_in_channels": [128, 256, 512], "decoder_in_channels": [32, 32, 32]},
    "timm_backbone": {"backbone": "resnet18"},
    "wav2vec2-bert": {"vocab_size": 32},
    "wav2vec2-conformer": {"vocab_size": 32},
    "xlnet": {"d_head": 8},
    "xmod": {"default_language": "en_XX"},
    "zoedepth": _FOUR_LEVELS,
}


def extra_inputs(family: str, part: str, config: PretrainedConfig) -> dict[str, Any]:
    """Further keyword arguments."""
    return {}
