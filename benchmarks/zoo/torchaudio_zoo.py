"""torchaudio: recognition, separation and synthesis of speech, in tiny configurations of the published models."""

from __future__ import annotations

from typing import Any

import torch
import torchaudio.models as audio
from case import Case, Recipe, tiny_cases
from torch import Tensor

PACKAGES = ("torch", "torchaudio")

_WAV2VEC2: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(16, 10, 5), (16, 3, 2)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 32,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 48,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.0,
    "aux_num_out": 10,
}
_LAYER_NORMED = {"extractor_mode": "layer_norm", "extractor_conv_bias": True, "encoder_layer_norm_first": True}
_WAVLM = {"encoder_num_buckets": 16, "encoder_max_distance": 32}
_TACOTRON: dict[str, Any] = {
    "n_symbol": 20,
    "symbol_embedding_dim": 16,
    "encoder_embedding_dim": 16,
    "n_mels": 8,
    "decoder_rnn_dim": 16,
    "attention_hidden_dim": 16,
    "attention_rnn_dim": 16,
    "attention_location_n_filter": 4,
    "attention_location_kernel_size": 3,
    "prenet_dim": 16,
    "postnet_embedding_dim": 16,
}
_TRANSDUCER: dict[str, Any] = {
    "input_dim": 16,
    "encoding_dim": 32,
    "num_symbols": 20,
    "segment_length": 4,
    "right_context_length": 1,
    "time_reduction_input_dim": 16,
    "time_reduction_stride": 1,
    "transformer_num_heads": 4,
    "transformer_ffn_dim": 32,
    "transformer_num_layers": 2,
    "transformer_dropout": 0.0,
    "transformer_activation": "relu",
    "transformer_left_context_length": 2,
    "transformer_max_memory_size": 0,
    "transformer_weight_init_scale_strategy": "depthwise",
    "transformer_tanh_on_mem": True,
    "symbol_embedding_dim": 16,
    "num_lstm_layers": 1,
    "lstm_layer_norm": True,
    "lstm_layer_norm_epsilon": 1e-3,
    "lstm_dropout": 0.0,
}
_WAVERNN: dict[str, Any] = {
    "upsample_scales": [2, 2, 3],
    "n_classes": 16,
    "hop_length": 12,
    "n_res_block": 2,
    "n_rnn": 32,
    "n_fc": 32,
    "n_hidden": 16,
    "n_freq": 16,
    "n_output": 16,
}
_SQUIM: dict[str, Any] = {
    "feat_dim": 32,
    "win_len": 16,
    "d_model": 16,
    "nhead": 4,
    "hidden_dim": 16,
    "num_blocks": 1,
    "rnn_type": "LSTM",
    "chunk_size": 8,
}
_TASNET: dict[str, Any] = {
    "num_sources": 2,
    "enc_kernel_size": 8,
    "enc_num_feats": 32,
    "msk_kernel_size": 3,
    "msk_num_feats": 16,
    "msk_num_hidden_feats": 24,
    "msk_num_layers": 3,
    "msk_num_stacks": 2,
}


def _lengths(*lengths: int) -> Tensor:
    return torch.tensor(lengths, dtype=torch.int32)


def _sound() -> tuple[Tensor]:
    return (torch.randn(2, 400),)


def _frames() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 13, 16), _lengths(12, 12)


MODELS: dict[str, Recipe] = {
    "Wav2Letter": (lambda: audio.Wav2Letter(12, "mfcc", 13), lambda: (torch.randn(2, 13, 96),)),
    "DeepSpeech": (lambda: audio.DeepSpeech(16, 32, 10), lambda: (torch.randn(2, 1, 12, 16),)),
    "Conformer": (
        lambda: audio.Conformer(16, 4, 32, 2, 7),
        lambda: (torch.randn(2, 12, 16), torch.tensor([12, 10])),
    ),
    "ConvTasNet": (lambda: audio.ConvTasNet(**_TASNET), lambda: (torch.randn(2, 1, 320),)),
    "Emformer": (lambda: audio.Emformer(16, 4, 32, 2, 4, right_context_length=1), _frames),
    "RNNT": (
        lambda: audio.emformer_rnnt_model(**_TRANSDUCER),
        lambda: (*_frames(), torch.randint(0, 20, (2, 4), dtype=torch.int32), _lengths(4, 4)),
    ),
    "WaveRNN": (
        lambda: audio.WaveRNN(**_WAVERNN),
        lambda: (torch.randn(2, 1, 48), torch.randn(2, 1, 16, 8)),
    ),
    "Tacotron2": (
        lambda: audio.Tacotron2(**_TACOTRON),
        lambda: (torch.randint(0, 20, (2, 7)), torch.tensor([7, 6]), torch.randn(2, 8, 5), torch.tensor([5, 4])),
    ),
    "HDemucs": (lambda: audio.HDemucs(["voice", "rest"], channels=8), lambda: (torch.randn(1, 2, 16384),)),
    "SquimObjective": (lambda: audio.squim_objective_model(**_SQUIM), lambda: (torch.randn(2, 320),)),
    "Wav2Vec2": (lambda: audio.wav2vec2_model(**_WAV2VEC2), _sound),
    "Wav2Vec2, layer norm": (lambda: audio.wav2vec2_model(**_WAV2VEC2 | _LAYER_NORMED), _sound),
    "WavLM": (lambda: audio.wavlm_model(**_WAV2VEC2 | _WAVLM), _sound),
}


def cases() -> list[Case]:
    return tiny_cases(MODELS)
