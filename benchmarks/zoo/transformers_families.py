"""Fields that the general rules for tiny configs do not get right, by family."""

from __future__ import annotations

from typing import Any

_FOUR_LEVELS: dict[str, Any] = {"backbone_config": {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]}}
_HGNET: dict[str, Any] = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 24, 32],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [16, 24, 32, 40],
    "hidden_sizes": [16, 24, 32, 40],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [2, 2, 2, 2],
}
_DETR_OF_HGNET: dict[str, Any] = {
    "backbone_config": _HGNET,
    "encoder_in_channels": [24, 32, 40],
    "decoder_in_channels": [32, 32, 32],
}
_EFFICIENTNET: dict[str, Any] = {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128}
_MAMBA2: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 8}
_SAM: dict[str, Any] = {"vision_config": {"num_pos_feats": 16}, "prompt_encoder_config": {"image_embedding_size": 8}}
_DEEPSEEK_EXPERTS: dict[str, Any] = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2}
_GEMMA_EXPERTS: dict[str, Any] = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24}
_SHARED_CACHES: dict[str, Any] = {
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "intermediate_size": [48] * 4,
    "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
}
_ROTARY: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
_LONGER: dict[str, Any] = {"original_max_position_embeddings": 64, "llama_4_scaling_beta": 0.1}
_ROTARY_BY_KIND: dict[str, Any] = {"full_attention": _ROTARY, "sliding_attention": _ROTARY}
_FIRST_FOUR, _LAST_FOUR = ([f"stage{stage}" for stage in range(first, first + 4)] for first in (1, 2))
_BANDS: dict[str, Any] = {"reduce_channel": [1, 1, 0], "return_channel": [1, 1, 0]} | {
    f"{kind}_{ratio}ratio": [[height, width], [1, 1], [height // 2, width // 2]]
    for ratio, size in (("long", 7), ("mid", 5), ("short", 3))
    for kind, height, width in (
        ("vertical_long_to_small_conv", size, 1),
        ("horizontal_small_to_long_conv", 1, size),
        ("symmetric_conv_long", size, size),
    )
}
_BANDS_OF_FOUR: dict[str, Any] = {
    "intraclass_block_config": _BANDS,
    "kernel_list": [3, 2, 2],
    "scale_factor_list": [1, 2, 4, 8],
}
_SAM2: dict[str, Any] = {
    "backbone_channel_list": [64, 48, 32, 16],
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    "backbone_config": {
        "hidden_size": 16,
        "embed_dim_per_stage": [16, 32, 48, 64],
        "num_attention_heads_per_stage": [1, 2, 2, 4],
        "blocks_per_stage": [1, 2, 2, 1],
        "global_attention_blocks": [2],
        "window_size_per_stage": [4, 4, 4, 2],
    },
}
_SMALL_RESNET: dict[str, Any] = {
    "in_chans": 3,
    "features_only": True,
    "out_indices": [0, 1, 2, 3],
    "channels": [8, 16, 24, 32],
    "stem_width": 8,
}
_EDGETAM: dict[str, Any] = {
    "vision_config": {
        "backbone_channel_list": [24, 16, 8, 16],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "backbone_config": {"architecture": "resnet10t", "model_args": _SMALL_RESNET},
    }
}
_PPLCNET4: dict[str, Any] = {
    "stem_channels": [3, 8, 16],
    "block_configs": [
        [[3, 16, 16, 1, True]],
        [[3, 16, 16, 2, False]],
        [[3, 16, 24, 2, False]],
        [[3, 24, 32, 2, False]],
    ],
    "out_features": _FIRST_FOUR,
}
_MINICPM: dict[str, Any] = {"downsample_mode": "16x", "insert_layer_id": 0, "vision_config": {"insert_layer_id": 0}}
_READING_ORDER: dict[str, Any] = {"max_2d_position_embeddings": 1024} | dict(
    zip(("start_token_id", "pad_token_id", "end_token_id", "pred_token_id"), range(4), strict=True)
)
_KEYPOINTS: dict[str, Any] = {"keypoint_decoder_dim": 65, "keypoint_threshold": 0.0, "max_keypoints": 8}
_PE_VIDEO: dict[str, Any] = {
    "vision_config": {
        "model_args": {
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 4,
            "img_size": [64, 64],
            "patch_size": 16,
            "ref_feat_shape": [4, 4],
        }
    }
}
_TWO_HYBRIDS: dict[str, Any] = {"layers_block_type": ["linear_attention", "hybrid"] * 2, "num_hidden_layers": 4}
_SMALL_FASTVIT: dict[str, Any] = {"embed_dims": [8, 16, 32, 64], "layers": [1, 1, 1, 1]}
_SMALL_VIT: dict[str, Any] = {
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 4,
    "img_size": [64, 64],
    "patch_size": 16,
    "global_pool": "",
    "ref_feat_shape": [4, 4],
    "use_post_transformer_norm": False,
}


_HALF_SHARED: dict[str, Any] = {
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_QUANTIZED: dict[str, Any] = {"encoder_hidden_size": 4, "quantization_dim": 64}
_UVDOC: dict[str, Any] = {
    "backbone_config": {
        "resnet_head": [[3, 8], [8, 8]],
        "resnet_configs": [
            [[8, 8, 1, False], [8, 8, 3, False]],
            [[8, 16, 1, True], [16, 16, 3, False]],
            [[16, 24, 1, True], [24, 24, 3, False]],
        ],
        "stage_configs": [[[24, 1]], [[24, 2]], [[24, 3], [24, 2]]],
        "out_features": ["stage1", "stage2", "stage3"],
    },
    "bridge_connector": [24, 24],
    "out_point_positions2D": [[24, 8], [8, 2]],
}


def _letters(number: int) -> str:
    """A number in letters: A for 0, J for 9."""
    return "".join(chr(ord("A") + int(digit)) for digit in str(number))


# Fields of the config; those of a nested config in a dict under its name.
CONFIGS: dict[str, dict[str, Any]] = {
    "align": {"projection_dim": 32, "vision_config": _EFFICIENTNET},
    "aria": {"projector_patch_to_query_dict": {64: 8}},
    "autoformer": {
        "prediction_length": 8,
        "moving_average": 5,
        "label_length": 4,
        "lags_sequence": [1, 2],
        "num_time_features": 1,
    },
    "bamba": _MAMBA2 | {"attn_layer_indices": [1]},
    "bit": {"num_groups": 4},
    "blip-2": {"image_token_id": 5},
    "bridgetower": {"hidden_size": 64, "text_config": {"hidden_size": 64}, "vision_config": {"hidden_size": 64}},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "bros": {
        "hidden_size": 64,
        "dim_bbox_sinusoid_emb_2d": 16,
        "dim_bbox_sinusoid_emb_1d": 2,
        "dim_bbox_projection": 16,
    },
    "chameleon": {
        "vocabulary_map": {"<image>": 4} | {f"IMGIMG{_letters(code)}Z": 5 + code for code in range(32)},
        "vq_config": {"num_embeddings": 32},
    },
    "chmv2": _FOUR_LEVELS | {"post_process_channels": [8, 16, 24, 32]},
    "clvp": {"text_config": {"hidden_size": 128}, "speech_config": {"hidden_size": 128}},
    "codegen": {"n_embd": 32, "n_head": 4},
    "d_fine": _DETR_OF_HGNET,
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": _DEEPSEEK_EXPERTS,
    "deepseek_vl_hybrid": {"high_res_vision_config": {"num_pos_feats": 16, "global_attn_indexes": [0, 1]}},
    "deimv2": _DETR_OF_HGNET,
    "depth_anything": _FOUR_LEVELS,
    "diffusion_gemma": {"text_config": _GEMMA_EXPERTS},
    "dots1": _DEEPSEEK_EXPERTS,
    "dpt": {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3]},
    "efficientnet": _EFFICIENTNET,
    "emu3": {
        "vocabulary_map": {"<image>": 4, "<|extra_200|>": 5}
        | {f"<|visual token {code:06d}|>": 6 + code for code in range(32)},
        "vq_config": {"codebook_size": 32, "hidden_size": 128},
    },
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "falcon_h1": _MAMBA2 | {"mamba_d_ssm": 64},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 8}},
    "glmasr": {"audio_config": {"intermediate_size": 128}},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "granite_speech": {"window_size": 10},
    "granite_speech_plus": {"window_size": 10},
    "granitemoehybrid": _MAMBA2 | {"layer_types": ["linear_attention", "full_attention"], "num_hidden_layers": 2},
    "hgnet_v2": _HGNET,
    "informer": {"prediction_length": 8, "lags_sequence": [1, 2], "num_time_features": 1},
    "instructblip": {"image_token_id": 5},
    "instructblipvideo": {"video_token_id": 5},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "levit": {"patch_size": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2, "num_dense_layers": 1},
    "lilt": {"hidden_size": 48},
    "llama4": {"vision_config": {"intermediate_size": 128}},
    "lw_detr": {"projector_scale_factors": [1.0], "group_detr": 2},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "mistral4": {"rope_parameters": _ROTARY | _LONGER, "head_dim": 8},
    "mllama": {
        "vision_config": {"intermediate_layers_indices": [0], "vision_output_dim": 64, "num_global_layers": 1},
        "text_config": {"cross_attention_layers": [1]},
    },
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0]}},
    "moonshine_streaming": {"num_key_value_heads": 4},
    "muse_spark": {"out_hidden_size": 128, "audio_config": {"num_hidden_layers": 4}},
    "muse_spark_audio": {"num_hidden_layers": 4},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"mamba_num_heads": 8, "mamba_head_dim": 8},
    "pp_doclayout_v2": _DETR_OF_HGNET
    | {
        "class_thresholds": [0.1, 0.1],
        "class_order": [0, 1],
        "reading_order_config": _READING_ORDER,
    },
    "pp_doclayout_v3": _DETR_OF_HGNET | {"x4_feat_dim": 16, "mask_feature_channels": [32, 32]},
    "pp_doclayout_v4": _DETR_OF_HGNET,
    "pp_ocrv5_server_det": {"backbone_config": _HGNET} | _BANDS_OF_FOUR,
    "prompt_depth_anything": _FOUR_LEVELS,
    "qwen4_exp": {
        "text_config": {
            "indexer_n_heads": 4,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 8,
            "indexer_budget": 8,
            "indexer_compress_ratio": 2,
        }
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [2, 6]},
    "rt_detr": {"encoder_in_channels": [128, 256, 512], "decoder_in_channels": [32, 32, 32]},
    "rt_detr_v2": {"encoder_in_channels": [128, 256, 512], "decoder_in_channels": [32, 32, 32]},
    "sam": _SAM,
    "sam_hq": _SAM,
    "superpoint": _KEYPOINTS,
    "superglue": {"keypoint_detector_config": _KEYPOINTS},
    "lightglue": {"keypoint_detector_config": _KEYPOINTS},
    "textnet": {"stem_out_channels": 16, "hidden_sizes": [16, 16, 32, 64, 128]},
    "timm_backbone": {"backbone": "resnet18"},
    "time_series_transformer": {"prediction_length": 8, "lags_sequence": [1, 2], "num_time_features": 1},
    "tipsv2_dpt": _FOUR_LEVELS,
    "vibevoice_asr": {
        "acoustic_tokenizer_chunk_size": 3200,
        "acoustic_tokenizer_encoder_config": {"num_filters": 2},
        "semantic_tokenizer_encoder_config": {"num_filters": 2},
    },
    "vipllava": {"vision_feature_layer": [-2, -1]},
    "vitmatte": {
        "initializer_range": 0.5,  # of the weights of its batch norms too, which at 0.02 let hardly anything through
        "backbone_config": {"patch_size": 16},
        "convstream_hidden_sizes": [8, 16, 24],
        "fusion_hidden_sizes": [32, 24, 16, 8],
    },
    "voxtral": {"audio_token_id": 5, "audio_config": {"intermediate_size": 128}},
    "wav2vec2-bert": {"vocab_size": 32},
    "wav2vec2-conformer": {"vocab_size": 32},
    "xlnet": {"d_head": 8},
    "xmod": {"default_language": "en_XX"},
    "clap": {
        "projection_dim": 32,
        "text_config": {"projection_dim": 32},
        "audio_config": {"spec_size": 128, "num_mel_bins": 32, "patch_embeds_hidden_size": 32, "hidden_size": 256},
    },
    "fast_vlm": {"vision_config": {"architecture": "fastvit_t8", "hidden_size": 128, "model_args": _SMALL_FASTVIT}},
    "neomme": {"head_dim": 16},
    "omdet-turbo": {
        "encoder_in_channels": [16, 24, 32],
        "vision_features_channels": [48, 48, 48],
        "apply_layernorm_after_vision_backbone": False,
        "decoder_hidden_dim": 48,
        "d_model": 48,
    },
    "perception_lm": {"vision_config": {"architecture": "vit_pe_core_large_patch14_336", "model_args": _SMALL_VIT}},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128, "num_heads": 2},
    "zamba": _TWO_HYBRIDS | {"attention_hidden_size": 64, "attention_head_dim": 16, "mamba_dt_rank": 8},
    "zamba2": _TWO_HYBRIDS
    | {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_headdim": 8,
        "n_mamba_heads": 8,
        "hybrid_layer_ids": [1, 3],
    },
    "cohere_compass": {"text_config": {"rope_parameters": _ROTARY_BY_KIND}},
    "cohere_compass_text": {"rope_parameters": _ROTARY_BY_KIND},
    "cvt": {"depth": [1, 2, 3], "embed_dim": [16, 32, 48], "num_heads": [1, 2, 3]},
    "deepseek_ocr2": {
        "text_config": _DEEPSEEK_EXPERTS | {"mlp_layer_types": ["dense", "sparse"]},
        "vision_config": {"sam_config": {"downsample_channels": [16, 32]}},
    },
    "depth_pro": {
        "patch_size": 64,
        "intermediate_hook_ids": [1, 0],
        "intermediate_feature_dims": [16, 16],
        "scaled_images_feature_dims": [32, 32, 16],
    },
    "ernie4_5_vl_moe": {
        "text_config": {"rope_parameters": _ROTARY | {"mrope_section": [1, 1, 2]}, "moe_intermediate_size": [24, 24]}
    },
    "sapiens2": {
        "head_config": {
            "upsample_out_channels": [16, 8],
            "upsample_kernel_sizes": [4, 4],
            "conv_out_channels": [8],
            "conv_kernel_sizes": [1],
        }
    },
    "gemma3n": {
        "text_config": _SHARED_CACHES,
        "vision_config": {"architecture": "test_efficientnet", "hidden_size": 256},
        "vision_soft_tokens_per_image": 4,
    },
    "gemma3n_text": _SHARED_CACHES,
    "edgetam": _EDGETAM | {"prompt_encoder_config": {"image_embedding_size": 8}},
    "edgetam_vision_model": _EDGETAM["vision_config"],
    "granite4_vision": {
        "deepstack_layer_map": [[-1, 0]],
        "spatial_target_layers": [0, 1, 0, 1],
        "downsample_rate": "2/4",
        "vision_config": {"hidden_size": 64},
    },
    "pp_ocrv5_mobile_det": {"backbone_config": {"out_features": _LAST_FOUR}},
    "pp_ocrv6_medium_det": {"backbone_config": _PPLCNET4} | _BANDS_OF_FOUR,
    "pp_ocrv6_small_det": {"backbone_config": _PPLCNET4, "layer_list_out_channels": [16, 16, 24, 32]},
    "sam2": {"vision_config": _SAM2, "prompt_encoder_config": {"patch_size": 16, "image_embedding_size": 4}},
    "sam2_hiera_det_model": _SAM2["backbone_config"],
    "sam2_vision_model": _SAM2,
    "sam3_tracker": {"vision_config": {"backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]}},
    "slanet": {"backbone_config": {"out_features": _LAST_FOUR}},
    "step3p7": {"text_config": {"sliding_window": 8}},
    "upernet": {"backbone_config": {"out_features": _FIRST_FOUR}, "auxiliary_in_channels": 256},
    "efficientloftr": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "stage_num_blocks": [1, 1, 1, 1],
        "out_features": [8, 8, 16, 32],
        "stage_in_channels": [1, 8, 8, 16],
        "stage_block_stride": [[2], [1], [2], [2]],
        "stage_block_in_channels": [[1], [8], [8], [16]],
        "stage_block_out_channels": [[8], [8], [16], [32]],
        "fine_fusion_dims": [32, 16, 8],
        "fine_matching_slice_dim": 4,
        "coarse_matching_threshold": 0.0,
        "coarse_matching_border_removal": 0,
    },
    "minicpm_ocr": _MINICPM,
    "minicpm_ocr_vision": {"insert_layer_id": 0},
    "minicpmv4_6": _MINICPM,
    "minicpmv4_7": _MINICPM,
    "minicpmv4_7_vision": {"insert_layer_id": 0},
    "muse_glimmer": {"out_hidden_size": 128},
    "unlimited_ocr": {"vision_config": {"sam_config": {"downsample_channels": [16, 32]}}},
    "nemotron_h_omni": {"image_token_id": 5, "video_token_id": 6, "vision_hidden_size": 32},
    "vibevoice": {"audio_config": {"num_filters": 2}, "semantic_model_config": {"num_filters": 2}},
    "glm_image": {"text_config": {"rope_parameters": _ROTARY | {"mrope_section": [1, 1, 2]}}},
    "inkling_mm_model": {"vision_config": {"patch_size": 40}},
    "qwen3_asr": {"audio_config": {"n_window": 50, "n_window_infer": 800}},
    "pe_audio_video": {"audio_video_config": {"video_config": _PE_VIDEO}},
    "pe_audio_video_encoder": {"video_config": _PE_VIDEO},
    "pe_video": {"video_config": _PE_VIDEO},
    "pe_video_encoder": _PE_VIDEO,
    "qwen3_asr_encoder": {"n_window": 50, "n_window_infer": 800},
    "seggpt": {"image_size": [128, 64]},
    "phi4_multimodal": {"audio_config": {"depthwise_separable_out_channel": 32, "ext_pw_out_channel": 32}},
    "zoedepth": _FOUR_LEVELS,
    "encodec": {"num_filters": 4},
    "gemma3n_vision": {"model_args": {"channel_multiplier": 0.125}},
    "gemma4_unified_assistant": {"text_config": _HALF_SHARED},
    "neucodec": _QUANTIZED,
    "t5gemma2_encoder": {"text_config": {"dropout_rate": 0.0}},  # set by its holder, where it has one
    "uvdoc": _UVDOC,
    "vibevoice_acoustic_tokenizer": {"num_filters": 4},
    "vibevoice_acoustic_tokenizer_decoder": {"num_filters": 4},
    "vibevoice_acoustic_tokenizer_encoder": {"num_filters": 4},
    "xcodec": {"codebook_dim": 64},
    "xcodec2": _QUANTIZED,
}
