"""diffusers: UNets, diffusion transformers and autoencoders, in tiny configurations of the published architectures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch
from case import Built, Case

from torch_pruning.trace.tracer import Example

PACKAGES = ("torch", "diffusers")

T = torch.tensor([3])
TEXT = 6  # tokens


def _image(channels: int = 4, size: int = 16) -> torch.Tensor:
    return torch.randn(1, channels, size, size)


def _video(channels: int = 4, frames: int = 4, size: int = 16) -> torch.Tensor:
    return torch.randn(1, channels, frames, size, size)


def _text(width: int, tokens: int = TEXT) -> torch.Tensor:
    return torch.randn(1, tokens, width)


def _mask() -> torch.Tensor:
    return torch.ones(1, TEXT, dtype=torch.bool)


def _rows(count: int) -> torch.Tensor:
    """Positions of tokens on three axes, as image ids."""
    return torch.stack([torch.zeros(count), torch.arange(count) // 4, torch.arange(count) % 4], 1).float()


UNETS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "UNet1DModel": (
        {
            "sample_size": 64,
            "in_channels": 2,
            "out_channels": 2,
            "extra_in_channels": 32,
            "block_out_channels": (16, 32, 32),
        },
        lambda: {"sample": torch.randn(1, 2, 64), "timestep": T},
    ),
    "UNet2DModel": (
        {"sample_size": 16, "block_out_channels": (16, 32), "norm_num_groups": 4, "layers_per_block": 1}
        | {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")},
        lambda: {"sample": _image(3), "timestep": T},
    ),
    "UNet2DConditionModel": (
        {"sample_size": 16, "block_out_channels": (16, 32), "norm_num_groups": 4, "layers_per_block": 1}
        | {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 24}
        | {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "attention_head_dim": 4},
        lambda: {"sample": _image(), "timestep": T, "encoder_hidden_states": _text(24)},
    ),
    "UNet2DConditionModel (linear projections, text and size conditions, as SDXL)": (
        {"sample_size": 16, "block_out_channels": (16, 32), "norm_num_groups": 4, "layers_per_block": 1}
        | {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "cross_attention_dim": 24}
        | {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": (2, 4)}
        | {"use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 8}
        | {"projection_class_embeddings_input_dim": 80, "transformer_layers_per_block": (1, 2)},
        lambda: {
            "sample": _image(),
            "timestep": T,
            "encoder_hidden_states": _text(24),
            "added_cond_kwargs": {"text_embeds": torch.randn(1, 32), "time_ids": torch.rand(1, 6)},
        },
    ),
    "UNet3DConditionModel": (
        {"sample_size": 16, "block_out_channels": (16, 32), "norm_num_groups": 4, "layers_per_block": 1}
        | {"down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"), "cross_attention_dim": 24}
        | {"up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"), "attention_head_dim": 8},
        lambda: {"sample": _video(), "timestep": T, "encoder_hidden_states": _text(24)},
    ),
    "UNetMotionModel": (
        {"sample_size": 16, "block_out_channels": (16, 32), "norm_num_groups": 4, "layers_per_block": 1}
        | {"down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"), "cross_attention_dim": 24}
        | {"up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"), "num_attention_heads": 2}
        | {"motion_num_attention_heads": 2},
        lambda: {"sample": _video(), "timestep": T, "encoder_hidden_states": torch.randn(4, TEXT, 24)},
    ),
    "UNetSpatioTemporalConditionModel": (
        {"sample_size": 16, "block_out_channels": (32, 64), "layers_per_block": 1, "num_attention_heads": (2, 4)}
        | {"down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal")}
        | {"up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), "num_frames": 2}
        | {"cross_attention_dim": 24, "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 24},
        lambda: {
            "sample": torch.randn(1, 2, 8, 16, 16),
            "timestep": T,
            "encoder_hidden_states": _text(24, 1),
            "added_time_ids": torch.rand(1, 3),
        },
    ),
    "Kandinsky3UNet": (
        {"time_embedding_dim": 32, "groups": 4, "attention_head_dim": 8, "layers_per_block": 2}
        | {"block_out_channels": (8, 16, 32, 64), "cross_attention_dim": 24, "encoder_hid_dim": 20},
        lambda: {
            "sample": _image(),
            "timestep": T,
            "encoder_hidden_states": _text(20),
            "encoder_attention_mask": torch.ones(1, TEXT),
        },
    ),
    "StableCascadeUNet": (
        {"in_channels": 4, "out_channels": 4, "timestep_ratio_embedding_dim": 8, "conditioning_dim": 16}
        | {"block_out_channels": (16, 32), "num_attention_heads": (2, 4), "down_num_layers_per_block": (1, 1)}
        | {"up_num_layers_per_block": (1, 1), "clip_text_pooled_in_channels": 12, "clip_seq": 2},
        lambda: {
            "sample": _image(),
            "timestep_ratio": torch.tensor([0.5]),
            "clip_text_pooled": torch.randn(1, 1, 12),
        },
    ),
    "UVit2DModel": (
        {"hidden_size": 32, "cond_embed_dim": 16, "micro_cond_encode_dim": 8, "micro_cond_embed_dim": 40}
        | {"encoder_hidden_size": 16, "vocab_size": 40, "codebook_size": 32, "in_channels": 16}
        | {"block_out_channels": 16, "num_res_blocks": 1, "block_num_heads": 2, "num_hidden_layers": 2}
        | {"num_attention_heads": 4, "intermediate_size": 48, "sample_size": 8},
        lambda: {
            "input_ids": torch.randint(0, 40, (1, 8, 8)),
            "encoder_hidden_states": _text(16),
            "pooled_text_emb": torch.randn(1, 16),
            "micro_conds": torch.rand(1, 5),
        },
    ),
    "I2VGenXLUNet": (
        {"sample_size": 16, "block_out_channels": (16, 32), "norm_num_groups": 4, "layers_per_block": 1}
        | {"down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"), "cross_attention_dim": 24}
        | {"up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"), "attention_head_dim": 8},
        lambda: {
            "sample": _video(),
            "timestep": T,
            "fps": torch.tensor([8]),
            "image_latents": _video(),
            "image_embeddings": torch.randn(1, 24),
            "encoder_hidden_states": _text(24),
        },
    ),
    "ControlNetModel": (
        {"block_out_channels": (16, 32), "norm_num_groups": 4, "layers_per_block": 1, "cross_attention_dim": 24}
        | {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 4}
        | {"conditioning_embedding_out_channels": (8, 16)},
        lambda: {
            "sample": _image(),
            "timestep": T,
            "encoder_hidden_states": _text(24),
            "controlnet_cond": _image(3, 32),
        },
    ),
}

HEADS = {"num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 2}
IDS = {"img_ids": _rows(16), "txt_ids": torch.zeros(TEXT, 3)}

TRANSFORMERS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "DiTTransformer2DModel": (
        HEADS | {"sample_size": 8, "num_embeds_ada_norm": 10},
        lambda: {"hidden_states": _image(4, 8), "timestep": T, "class_labels": torch.tensor([1])},
    ),
    "Transformer2DModel": (
        HEADS | {"in_channels": 16, "norm_num_groups": 4, "cross_attention_dim": 24},
        lambda: {"hidden_states": _image(16, 8), "encoder_hidden_states": _text(24)},
    ),
    "PixArtTransformer2DModel": (
        HEADS
        | {"sample_size": 8, "cross_attention_dim": 32, "caption_channels": 20, "use_additional_conditions": False},
        lambda: {
            "hidden_states": _image(4, 8),
            "encoder_hidden_states": _text(20),
            "timestep": T,
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        },
    ),
    "SD3Transformer2DModel": (
        HEADS
        | {"sample_size": 8, "in_channels": 4, "out_channels": 4, "joint_attention_dim": 20}
        | {"caption_projection_dim": 32, "pooled_projection_dim": 12, "pos_embed_max_size": 8}
        | {"dual_attention_layers": (0,), "qk_norm": "rms_norm"},
        lambda: {
            "hidden_states": _image(4, 8),
            "encoder_hidden_states": _text(20),
            "pooled_projections": torch.randn(1, 12),
            "timestep": T,
        },
    ),
    "FluxTransformer2DModel": (
        {"in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
        | {"joint_attention_dim": 20, "pooled_projection_dim": 12, "axes_dims_rope": (4, 4, 8)},
        lambda: {
            "hidden_states": torch.randn(1, 16, 4),
            "encoder_hidden_states": _text(20),
            "pooled_projections": torch.randn(1, 12),
            "timestep": torch.tensor([0.5]),
            **IDS,
        },
    ),
    "ChromaTransformer2DModel": (
        {"in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
        | {"joint_attention_dim": 32, "axes_dims_rope": (4, 4, 8), "approximator_num_channels": 8}
        | {"approximator_hidden_dim": 16, "approximator_layers": 1},
        lambda: {
            "hidden_states": torch.randn(1, 16, 4),
            "encoder_hidden_states": _text(32),
            "timestep": torch.tensor([0.5]),
            **IDS,
        },
    ),
    "SanaTransformer2DModel": (
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 2}
        | {"num_cross_attention_heads": 2, "cross_attention_head_dim": 16, "cross_attention_dim": 32}
        | {"caption_channels": 20, "sample_size": 8},
        lambda: {"hidden_states": _image(4, 8), "encoder_hidden_states": _text(20), "timestep": T},
    ),
    "AuraFlowTransformer2DModel": (
        {"sample_size": 8, "num_mmdit_layers": 1, "num_single_dit_layers": 1, "attention_head_dim": 8}
        | {"num_attention_heads": 4, "joint_attention_dim": 20, "caption_projection_dim": 32, "pos_embed_max_size": 16},
        lambda: {"hidden_states": _image(4, 8), "encoder_hidden_states": _text(20), "timestep": torch.tensor([0.5])},
    ),
    "HunyuanDiT2DModel": (
        HEADS
        | {"in_channels": 4, "patch_size": 2, "sample_size": 8, "hidden_size": 32, "cross_attention_dim": 16}
        | {"cross_attention_dim_t5": 24, "pooled_projection_dim": 12, "text_len": TEXT, "text_len_t5": 5}
        | {"use_style_cond_and_image_meta_size": False},
        lambda: {
            "hidden_states": _image(4, 8),
            "timestep": torch.tensor([3.0]),
            "encoder_hidden_states": _text(16),
            "text_embedding_mask": torch.ones(1, TEXT),
            "encoder_hidden_states_t5": _text(24, 5),
            "text_embedding_mask_t5": torch.ones(1, 5),
            "image_rotary_emb": (torch.rand(16, 8), torch.rand(16, 8)),
        },
    ),
    "CogVideoXTransformer3DModel": (
        HEADS
        | {"in_channels": 4, "out_channels": 4, "time_embed_dim": 16, "text_embed_dim": 20, "sample_width": 8}
        | {"sample_height": 8, "sample_frames": 5, "max_text_seq_length": TEXT, "temporal_compression_ratio": 4},
        lambda: {"hidden_states": torch.randn(1, 2, 4, 8, 8), "encoder_hidden_states": _text(20), "timestep": T},
    ),
    "LatteTransformer3DModel": (
        HEADS
        | {"in_channels": 4, "out_channels": 8, "sample_size": 8, "patch_size": 2, "cross_attention_dim": 32}
        | {"norm_type": "ada_norm_single", "caption_channels": 20, "video_length": 2}
        | {"norm_elementwise_affine": False, "activation_fn": "gelu-approximate", "attention_bias": True},
        lambda: {"hidden_states": _video(4, 2, 8), "timestep": T, "encoder_hidden_states": _text(20)},
    ),
    "WanTransformer3DModel": (
        {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 20}
        | {"freq_dim": 16, "ffn_dim": 32, "num_layers": 2, "rope_max_seq_len": 32},
        lambda: {"hidden_states": _video(4, 2, 8), "timestep": T, "encoder_hidden_states": _text(20)},
    ),
    "LTXVideoTransformer3DModel": (
        HEADS | {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 32, "caption_channels": 20},
        lambda: {
            "hidden_states": torch.randn(1, 32, 4),
            "encoder_hidden_states": _text(20),
            "timestep": T,
            "encoder_attention_mask": _mask(),
            "num_frames": 2,
            "height": 4,
            "width": 4,
        },
    ),
    "MochiTransformer3DModel": (
        HEADS
        | {"pooled_projection_dim": 16, "in_channels": 4, "text_embed_dim": 16, "time_embed_dim": 8}
        | {"max_sequence_length": TEXT},
        lambda: {
            "hidden_states": _video(4, 2, 8),
            "encoder_hidden_states": _text(16),
            "timestep": T,
            "encoder_attention_mask": _mask(),
        },
    ),
    "QwenImageTransformer2DModel": (
        {"in_channels": 16, "out_channels": 4, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2}
        | {"joint_attention_dim": 20, "axes_dims_rope": (4, 4, 8)},
        lambda: {
            "hidden_states": torch.randn(1, 16, 16),
            "encoder_hidden_states": _text(20),
            "encoder_hidden_states_mask": _mask(),
            "timestep": torch.tensor([0.5]),
            "img_shapes": [(1, 4, 4)],
        },
    ),
    "Lumina2Transformer2DModel": (
        {"sample_size": 8, "in_channels": 4, "hidden_size": 48, "num_layers": 1, "num_refiner_layers": 1}
        | {"num_attention_heads": 4, "num_kv_heads": 2, "multiple_of": 16, "axes_dim_rope": (4, 4, 4)}
        | {"axes_lens": (32, 32, 32), "cap_feat_dim": 20},
        lambda: {
            "hidden_states": _image(4, 8),
            "timestep": torch.tensor([0.5]),
            "encoder_hidden_states": _text(20),
            "encoder_attention_mask": _mask(),
        },
    ),
    "PriorTransformer": (
        HEADS | {"embedding_dim": 12, "num_embeddings": TEXT, "additional_embeddings": 4},
        lambda: {
            "hidden_states": torch.randn(1, 12),
            "timestep": T,
            "proj_embedding": torch.randn(1, 12),
            "encoder_hidden_states": _text(12),
            "attention_mask": torch.ones(1, TEXT),
        },
    ),
    "StableAudioDiTModel": (
        {"sample_size": 16, "in_channels": 4, "out_channels": 4, "num_layers": 2, "attention_head_dim": 8}
        | {"num_attention_heads": 4, "num_key_value_attention_heads": 2, "cross_attention_dim": 16}
        | {"time_proj_dim": 8, "global_states_input_dim": 12, "cross_attention_input_dim": 16},
        lambda: {
            "hidden_states": torch.randn(1, 4, 16),
            "timestep": torch.tensor([0.5]),
            "encoder_hidden_states": _text(16),
            "global_hidden_states": torch.randn(1, 1, 12),
            "rotary_embedding": (torch.rand(17, 4), torch.rand(17, 4)),
        },
    ),
    "CogView4Transformer2DModel": (
        HEADS
        | {"in_channels": 4, "out_channels": 4, "text_embed_dim": 20, "time_embed_dim": 8, "condition_dim": 4}
        | {"pos_embed_max_size": 8, "sample_size": 8, "rope_axes_dim": (8, 8)},
        lambda: {
            "hidden_states": _image(4, 8),
            "encoder_hidden_states": _text(20),
            "timestep": T,
            "original_size": torch.tensor([[64.0, 64.0]]),
            "target_size": torch.tensor([[64.0, 64.0]]),
            "crop_coords": torch.tensor([[0.0, 0.0]]),
        },
    ),
    "HunyuanVideoTransformer3DModel": (
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 1}
        | {"num_single_layers": 1, "num_refiner_layers": 1, "text_embed_dim": 20, "pooled_projection_dim": 8}
        | {"rope_axes_dim": (4, 4, 4)},
        lambda: {
            "hidden_states": _video(4, 2, 8),
            "timestep": T,
            "encoder_hidden_states": _text(20),
            "encoder_attention_mask": _mask(),
            "pooled_projections": torch.randn(1, 8),
            "guidance": torch.tensor([6.0]),
        },
    ),
    "CosmosTransformer3DModel": (
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2}
        | {"text_embed_dim": 20, "adaln_lora_dim": 8, "max_size": (4, 16, 16), "concat_padding_mask": False},
        lambda: {"hidden_states": _video(4, 2, 8), "timestep": torch.tensor([0.5]), "encoder_hidden_states": _text(20)},
    ),
}

BLOCKS = {"block_out_channels": (16, 32), "norm_num_groups": 4, "layers_per_block": 1}
DOWN_UP = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}

AUTOENCODERS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "AutoencoderKL": (BLOCKS | DOWN_UP, lambda: _image(3, 16)),
    "AsymmetricAutoencoderKL": (
        DOWN_UP | {"down_block_out_channels": (16, 32), "up_block_out_channels": (16, 32), "norm_num_groups": 4},
        lambda: {"sample": _image(3, 16), "mask": torch.rand(1, 1, 16, 16).round()},
    ),
    "AutoencoderTiny": (
        {"encoder_block_out_channels": (16, 16), "decoder_block_out_channels": (16, 16)}
        | {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)},
        lambda: torch.rand(1, 3, 16, 16),
    ),
    "AutoencoderDC": (
        {"latent_channels": 4, "attention_head_dim": 4, "encoder_block_out_channels": (16, 32)}
        | {"decoder_block_out_channels": (16, 32), "encoder_layers_per_block": (1, 1)}
        | {"decoder_layers_per_block": (1, 1), "encoder_qkv_multiscales": ((), (5,)), "decoder_act_fns": "silu"}
        | {"decoder_qkv_multiscales": ((), (5,)), "encoder_block_types": ("ResBlock", "EfficientViTBlock")}
        | {"decoder_block_types": ("ResBlock", "EfficientViTBlock"), "decoder_norm_types": "rms_norm"},
        lambda: _image(3, 16),
    ),
    "AutoencoderKLTemporalDecoder": (
        {"block_out_channels": (32, 64), "layers_per_block": 1, "down_block_types": ("DownEncoderBlock2D",) * 2},
        lambda: {"sample": torch.randn(2, 3, 16, 16), "num_frames": 2},
    ),
    "AutoencoderKLCogVideoX": (
        {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "layers_per_block": 1, "latent_channels": 4}
        | {"temporal_compression_ratio": 4},
        lambda: _video(3, 5, 16),
    ),
    "AutoencoderKLWan": (
        {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 2], "num_res_blocks": 1, "temperal_downsample": [True]}
        | {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4},
        lambda: _video(3, 5, 16),
    ),
    "AutoencoderKLMochi": (
        {"latent_channels": 4, "encoder_block_out_channels": (32, 32, 32, 64), "layers_per_block": (1, 1, 1, 1, 1)}
        | {"decoder_block_out_channels": (32, 32, 32, 64)},
        lambda: _video(3, 7, 16),
    ),
    "AutoencoderOobleck": (
        {"encoder_hidden_size": 8, "downsampling_ratios": [2, 2], "channel_multiples": [1, 2], "decoder_channels": 8}
        | {"decoder_input_channels": 4, "audio_channels": 2},
        lambda: torch.randn(1, 2, 64),
    ),
    "VQModel": (
        BLOCKS | DOWN_UP | {"num_vq_embeddings": 32, "latent_channels": 4},
        lambda: _image(3, 16),
    ),
    "ConsistencyDecoderVAE": (
        {"encoder_block_out_channels": (16, 32), "encoder_down_block_types": ("DownEncoderBlock2D",) * 2}
        | {"encoder_layers_per_block": 1, "decoder_block_out_channels": (32, 64), "decoder_layers_per_block": 1}
        | {"decoder_down_block_types": ("ResnetDownsampleBlock2D",) * 2, "encoder_norm_num_groups": 4}
        | {"decoder_up_block_types": ("ResnetUpsampleBlock2D",) * 2, "encoder_double_z": True},
        lambda: _image(3, 16),
    ),
}


def cases() -> list[Case]:
    found = []
    for family, table in (("UNet", UNETS), ("transformer", TRANSFORMERS), ("autoencoder", AUTOENCODERS)):
        found += [Case(name, family, partial(_build, name, *row)) for name, row in table.items()]
    return found


def _build(name: str, config: dict[str, Any], inputs: Callable[[], Any]) -> Built:
    model = getattr(diffusers, name.partition(" ")[0])(**config).eval()
    return Built(model, (Example(inputs()),), "tiny configuration")
