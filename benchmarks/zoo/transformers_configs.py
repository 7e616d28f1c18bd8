"""Tiny configs of every transformers architecture, made by looking at the fields of the config itself.

A field is shrunk by what its name says (heads, layers, widths, vocabularies, patches) and by what it holds (a number, a
list of numbers, another config). Only what changes is passed on, so that a config derives the rest as it always does.
"""

from __future__ import annotations

import re
from typing import Any

from transformers import PretrainedConfig

WIDTH, FFN, EXPERT, HEADS, KEY_VALUES, HEAD_DIM, LAYERS, VOCABULARY = 32, 48, 24, 4, 2, 8, 2, 128
IMAGE, PATCH, WINDOW = 64, 8, 2
FIRST_SPECIAL = 3  # 0, 1 and 2 pad, begin and end a text

# What a name says, and the largest value that a number of such a name may have. The first that matches counts.
_LIMITS: list[tuple[str, int]] = [
    (r"num_feat_extract_layers|num_conv_pos|class_expand", 10**9),
    (
        r"^chunk_size_feed_forward$|ignore_index|ignore_value|_coefficient$|_cost$|^temporal_patch|^patch_temporal",
        10**9,
    ),
    (
        r"sampling_rate|sample_rate|hop_length|^pretraining_tp$|kernel_size|stride$|max_depth|_token_scale|factor$",
        10**9,
    ),
    (r"^rotary_dim$", 4),
    (r"^mm_tokens_per_image$|^model_in_dim$", 16),
    (r"^n_window$", 8),
    (r"^n_window_infer$", 32),
    (r"^pos_emb_(height|width)$", 16),
    (r"temperature|period$|theta|num_labels|positional_encoding_temp|log_scaling|floor_scale|^rope_", 10**9),
    (r"num_encoder_blocks|num_stages|^layer_group|block_multiple|blocks_per|_per_block|num_blocks_per", 10**9),
    (r"vocab.*size|vocab_size|^codebook_size|n_codes|num_embeddings$|entity_vocab", VOCABULARY),
    (r"(key_value_heads|kv_heads|kv_n_heads|num_key_value_head)", KEY_VALUES),
    (r"experts?_per_tok|moe_top_?k|^moe_k$|num_selected|top_k_experts|topk_group|^top_k$|num_limited_groups", 2),
    (r"^n_group$|num_expert_group", 2),
    (r"n_shared_experts|num_shared_experts|moe_num_shared", 1),
    (r"(num|n|local|routed).*experts$|^moe_num_experts$|^num_experts$|num_local_experts", 4),
    (r"moe_intermediate|expert.*(intermediate|ffn|dim)|moe_.*intermediate", EXPERT),
    (r"attention_heads$|(^|_)n?_?heads?$|num_heads|n_head$|_n_heads", HEADS),
    (r"qk_head_dim|index_head_dim", 2 * HEAD_DIM),
    (r"mamba_(n_heads|num_heads)|mamba_n_heads", 8),
    (r"head_dim$|head_size|d_kv$|dim_head|d_head|kv_channels|attention_head_dim|_head_dim", HEAD_DIM),
    (r"first_k_dense|max_window_layers|num_dense_layers|moe_layer_start", 1),
    (r"(layers|^depth|_depth|blocks|^n_layer|num_layers|encoder_layers|num_stages_layers|^layers)$", LAYERS),
    (
        r"intermediate|ffn_(dim|hidden)|ffn_embed|^d_ff$|^dff$|dim_ff|mlp_dim|ff_dim|n_inner|d_inner|feed_?forward_?(dim|size)?",
        FFN,
    ),
    (r"lora_rank|latent_rank|dt_rank|time_step_rank|_rank$|lora_r$", HEAD_DIM),
    (r"d_state|state_size|ssm_state", 8),
    (r"image_size|img_size|spec_size|crop_size|resolution|input_res", IMAGE),
    (r"patch_size|patch_embed.*size$", PATCH),
    (r"sliding_window|local_attention|attention_window|attention_chunk", 8),
    (r"max_.*position|position_embeddings|n_positions|n_ctx|max_seq|max_len|context_length|max_length|seq_len", 128),
    (r"max_source_positions|max_target_positions", 64),
    (r"num_frames|frames$", 4),
    (r"num_mel_bins|mel_bins|mel_dim|n_mels", 16),
    (r"num_queries|num_query|num_latents|num_image_tokens|latent_query|num_denoising|n_latents|num_proposals", 8),
    (r"num_points$|quantizers$", 16),
    (r"^n_groups$|mamba_n_groups", 2),
    (r"hidden|(^|_)dims?$|d_model|n_embd|embed|width|channels$|_units$|filters$|_size$|planes$|features$", WIDTH),
]
_RULES = [(re.compile(pattern), limit) for pattern, limit in _LIMITS]
_TOKEN = re.compile(r"(token_id|token_index|_token_ids?|_ids?)$|^(pad|bos|eos|sep|cls|mask|unk)_(index|token)")
_LABELS = frozenset(["id2label", "label2id", "num_labels", "problem_type", "dtype", "transformers_version"])
_WIDTHS = re.compile(r"^(encoder_)?hidden_sizes$|^embed_dims?$|^hidden_dims$|^conv_dim$|^stage_dims$")
_DEPTHS = re.compile(r"depths|num_blocks|repeats|^depth$")
_PICKED = re.compile(r"^deepstack_visual_indexes$|^global_attn_indexes$|^fullatt_block_indexes$")
_DROPPED = re.compile(r"drop|mask_(time|feature)_prob|jitter|noise")
_PADDING = {"pad": 0, "bos": 1, "eos": 2, "decoder_start": 1}


def tiny(kind: type[PretrainedConfig], overrides: dict[str, Any] | None = None, **more: Any) -> PretrainedConfig:
    """A config of this class of two layers and a width of 32, where the class allows it.

    `overrides` are fields that the rules do not get right; those of a nested config are a dict under its name,
    or a function without arguments that gives it as a whole.
    """
    given = {**(overrides or {}), **more}
    given = {name: item() if callable(item) else item for name, item in given.items()}
    return _built(kind, _default(kind, given), given, _Specials())


def _default(kind: type[PretrainedConfig], given: dict[str, Any]) -> PretrainedConfig:
    """The config of a class as it is, or as given where the class refuses its own defaults."""
    try:
        return kind()
    except Exception:
        return kind(**given)


class _Specials:
    """Numbers for special tokens, each a different one."""

    def __init__(self) -> None:
        self.next = FIRST_SPECIAL

    def take(self) -> int:
        self.next += 1
        return self.next - 1


def _built(
    kind: type[PretrainedConfig], found: PretrainedConfig, given: dict[str, Any], specials: _Specials
) -> PretrainedConfig:
    """A config like `found`, but smaller, and as `given` where that says more."""
    fields = _differing(kind, found)
    for name, value in vars(found).items():
        if name.startswith("_") or name in _LABELS:
            continue
        nested = given.get(name) if isinstance(given.get(name), dict) else {}
        if name == "backbone_config" and (value is None or value.model_type == "timm_backbone"):
            fields |= {"backbone_config": _small_backbone(found), "backbone": None, "use_timm_backbone": False}
        elif isinstance(value, PretrainedConfig):
            fields[name] = _built(type(value), value, dict(nested or {}), specials)
        else:
            new = _shrunk(name, value, specials)
            fields |= {} if new is None else {name: new}
    fields |= _given_out(found, fields) | _places(found, specials)
    fields |= _tied(found, fields)
    nested_names = {name for name, value in fields.items() if isinstance(value, PretrainedConfig)}
    fields |= {name: item for name, item in given.items() if name not in nested_names or not isinstance(item, dict)}
    fields |= _layer_kinds(found, fields, given)
    fields |= _sections(found, fields, given)
    known = {*vars(found), *given, "out_features", "out_indices"}
    return kind(**{name: value for name, value in fields.items() if name in known})


def _differing(kind: type[PretrainedConfig], found: PretrainedConfig) -> dict[str, Any]:
    """The plain fields of a config that are not what its class says, as its holder has set them."""
    try:
        default = vars(kind())
    except Exception:  # a class that has to be told something: all of it then
        default = {}
    plain = (bool, int, float, str, list, tuple, dict)
    return {
        name: value
        for name, value in vars(found).items()
        if isinstance(value, plain) and not name.startswith("_") and name not in _LABELS and default.get(name) != value
    }


def _tied(found: PretrainedConfig, fields: dict[str, Any]) -> dict[str, Any]:
    """What hangs together: as many keys as queries where that was so, and widths of whole heads."""
    values = vars(found)
    tied: dict[str, Any] = {}
    heads, keys = values.get("num_attention_heads"), values.get("num_key_value_heads")
    if isinstance(heads, int) and heads == keys:
        tied["num_key_value_heads"] = fields.get("num_attention_heads", heads)
    if keys == 1:
        tied["num_key_value_heads"] = 1
    per_stage = values.get("num_heads")
    if isinstance(per_stage, (list, tuple)) and isinstance(values.get("embed_dim"), int):
        tied["embed_dim"] = HEAD_DIM * per_stage[0]
    if "head_dim" in values and values["head_dim"] is None:
        tied["head_dim"] = HEAD_DIM
    kinds = values.get("layer_types") or []
    if any("sliding" in str(each) for each in kinds) and not values.get("sliding_window"):
        tied["sliding_window"] = HEAD_DIM
    if "upsample_groups" in values:
        tied["upsample_groups"] = WIDTH
    return tied


def _places(found: PretrainedConfig, specials: _Specials) -> dict[str, Any]:
    """Tokens that stand for media, where there are none; a vocabulary map has its own."""
    values = vars(found)
    names = [f"{kind}_token_id" for kind in ("image", "video", "audio") if "vocabulary_map" not in values]
    return {name: specials.take() for name in names if name in values and values[name] is None}


def _given_out(found: PretrainedConfig, fields: dict[str, Any]) -> dict[str, Any]:
    """As many stages given out as before, of so many layers where layers are stages."""
    values = vars(found)
    names, indices = values.get("stage_names"), values.get("_out_indices")
    if not names or not indices:
        return {}
    layers = values.get("num_hidden_layers")
    if layers != len(names) - 1 or "num_hidden_layers" not in fields:
        return {"out_features": [names[index] for index in indices]}
    count = max(LAYERS, len(indices))
    last = range(count - len(indices) + 1, count + 1)
    return {"num_hidden_layers": count, "out_indices": list(last)}


def _sections(found: PretrainedConfig, fields: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Sections of a multimodal rotary embedding that fit small heads."""
    name = "rope_parameters" if "rope_parameters" in vars(found) else "rope_scaling"
    rotary = vars(found).get(name)
    if name in given or not isinstance(rotary, dict) or "mrope_section" not in rotary:
        return {}
    size = fields.get("head_dim", vars(found).get("head_dim")) or HEAD_DIM
    half = int(size * rotary.get("partial_rotary_factor", 1)) // 2
    third = half // 3
    return {name: rotary | {"mrope_section": [half - 2 * third, third, third]}}


def _small_backbone(holder: PretrainedConfig) -> PretrainedConfig:
    """Convolutions of four stages, of which as many are given out as a holder reads."""
    from transformers import ResNetConfig

    levels = getattr(holder, "num_feature_levels", 1)
    stages = [f"stage{stage}" for stage in (2, 3, 4)] if levels > 1 else ["stage4"]
    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic", out_features=stages
    )


def _layer_kinds(default: PretrainedConfig, fields: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """One layer of each kind, where layers are of several kinds."""
    found: dict[str, Any] = {}
    for name in ("layer_types", "layers_block_type", "mlp_layer_types"):
        kinds = getattr(default, name, None)
        if name in given or not isinstance(kinds, (list, tuple)) or not kinds:
            continue
        different = list(dict.fromkeys(kinds))
        count = max(LAYERS, len(different))
        try:
            vars(default)[name]
        except KeyError:
            continue
        found[name] = (different * count)[:count]
        for layers in ("num_hidden_layers", "n_layer", "num_layers"):
            if layers in vars(default) and layers not in given:
                found[layers] = count
    counts = {len(kinds) for kinds in found.values() if isinstance(kinds, list)}
    if len(counts) > 1:  # several lists: the longest decides
        most = max(counts)
        for name, kinds in found.items():
            found[name] = (kinds * most)[:most] if isinstance(kinds, list) else most
    return found


def _shrunk(name: str, value: Any, specials: _Specials) -> Any:
    """The new value of a field, or None where it stays."""
    if _TOKEN.search(name):
        return _token(name, value, specials)
    if type(value) is float and _DROPPED.search(name):
        return 0.0 if value else None
    if name == "initializer_range" and type(value) is float and value < 1e-3:
        return 0.02  # weights of 1e-10 give outputs of nothing but what a norm adds to a variance
    if name == "image_grid_pinpoints":
        return [[IMAGE, IMAGE]]
    if name == "window_size" and type(value) is int:
        return WINDOW if value <= 16 else 4 * PATCH
    if type(value) is int:
        return _limited(name, value)
    if isinstance(value, (list, tuple)) and value and all(type(item) is int for item in value):
        return _list(name, value)
    return None


def _token(name: str, value: Any, specials: _Specials) -> Any:
    known = next((number for start, number in _PADDING.items() if name.startswith(start + "_")), None)
    if type(value) is int and value >= 0:
        return known if known is not None else specials.take()
    if isinstance(value, (list, tuple)) and value and type(value[0]) is int:
        return [known] if known is not None else [specials.take() for _ in value]
    return None


def _limited(name: str, value: int) -> int | None:
    for pattern, limit in _RULES:
        if pattern.search(name):
            return limit if value > limit else None
    return None


def _list(name: str, values: Any) -> Any:
    if _DEPTHS.search(name):
        new = [min(value, 1) for value in values]
    elif "image_size" in name or "img_size" in name:
        new = [min(value, IMAGE) for value in values]
    elif "patch_size" in name:
        new = [min(value, PATCH) for value in values]
    elif _PICKED.search(name):
        new = [layer for layer in range(LAYERS) if layer < len(values)]
    elif _WIDTHS.search(name) and min(values) >= 16:
        new = [max(8, value // 4 // 8 * 8) for value in values]
    else:
        return None
    return None if list(values) == new else type(values)(new)
