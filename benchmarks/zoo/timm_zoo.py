"""timm: every name in `list_models()`. Small members of each family are executed, the others are traced."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import partial
from typing import Any

import timm
import torch
from case import Built, Case
from torch import nn

from torch_pruning.trace.tracer import Example

PACKAGES = ("torch", "timm")
SIZES = (64, 96, 128, 160, 192, 224, 256)  # of which models that take any size get the smallest that they run with

# What is executed: of every module of timm.models one or several members, small ones, the kinds of block that occur.
EXECUTED = """
    botnet26t_256 eca_halonext26ts lambda_resnet26t haloregnetz_b bat_resnext26ts gcresnext26ts gernet_s mobileone_s0
    regnetz_b16 repvgg_a0 resnet50_clip coat_lite_tiny coat_tiny convit_tiny convnext_zepto_rms convnextv2_atto
    cpubone_nano crossvit_9_240 crossvit_9_dagger_240 csatv2 cs3darknet_s cspresnext50 cspdarknet53 cs3sedarknet_l
    cspnext_tiny davit_tiny deit_tiny_distilled_patch16_224 densenet121 densenetblur121d dla46x_c dla60_res2net dpn48b
    edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_b0 efficientnet_cc_b0_4e mixnet_s
    mobilenetv2_035 tinynet_e efficientvim_m1 efficientvim_m1_dist efficientvit_b0 efficientvit_l1 efficientvit_m0
    eva02_tiny_patch14_224 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny
    ghostnet_050 ghostnetv2_100 ghostnetv3_050 hardcorenas_a hgnet_tiny hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny
    hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small
    levit_128s levit_conv_128s lowformer_b0 mambaout_femto coatnet_pico_rw_224 coatnet_rmlp_nano_rw_224
    maxvit_pico_rw_256 coatnext_nano_rw_224 caformer_s18 convformer_s18 poolformer_s12 poolformerv2_s12 gmixer_12_224
    gmlp_ti16_224 mixer_s32_224 resmlp_12_224 fbnetv3_b lcnet_035 mobilenetv3_small_050 mobilenetv4_conv_small_035
    mobilenetv4_hybrid_medium_075 mobilevit_xxs mobilevitv2_050 mvitv2_tiny nest_tiny eca_nfnet_l0 nf_regnet_b0
    pit_ti_distilled_224 pvt_v2_b0 pvt_v2_b2_li rdnet_tiny regnetx_002 regnety_002 regnetz_005 repghostnet_050
    repvit_m0_9 res2net50_48w_2s resnest14d resnet10t ecaresnet26t seresnext26t_32x4d resnetv2_18 resnetv2_50d_evos
    rexnet_100 rexnetr_100 selecsls42 legacy_seresnext26_32x4d shvit_s1 skresnet18 starnet_s050 swiftformer_xs
    swin_tiny_patch4_window7_224 swinv2_cr_tiny_ns_224 swinv2_tiny_window8_256 tiny_vit_5m_224 tnt_s_patch16_224
    tresnet_m tresnet_v2_l twins_pcpvt_small twins_svt_small vgg11_bn visformer_tiny vit_tiny_patch16_224
    vit_tiny_r_s16_p8_224 ese_vovnet19b_slim_dw eca_vovnet39b legacy_xception xception41 xcit_nano_12_p16_224
""".split()

# Families without a small member, and long ones: built with fewer or narrower blocks, as the row says.
REDUCED: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": {"depth": 2},
    "beitv2_base_patch16_224": {"depth": 2},
    "cait_xxs24_224": {"depth": 2},
    "convmixer_768_32": {},
    "deepseek_vit_412m": {"depth": 2},
    "deit3_small_patch16_224": {"depth": 3},
    "eva_giant_patch14_224": {"depth": 2, "embed_dim": 352, "num_heads": 4},
    "vit_small_patch16_rope_mixed_224": {"depth": 2},
    "vit_pe_core_small_patch16_384": {"depth": 2},
    "gemma4_vit_167m": {"depth": 2},
    "mobilenetv5_300m": {},
    "naflexvit_base_patch16_gap": {"depth": 2},
    "naflexvit_base_patch16_map": {"depth": 2},
    "nasnetalarge": {},
    "nextvit_small": {},
    "pnasnet5large": {},
    "qwen3_vit_88m": {"depth": 2},
    "sequencer2d_s": {"layers": (1, 1, 1, 1)},
    "aimv2_large_patch14_224": {"depth": 2},
    "beit3_base_patch16_224": {"depth": 2},
    "vit_base_patch16_siglip_224": {"depth": 2},
    "vit_base_patch16_rpn_224": {"depth": 2},
    "vit_relpos_small_patch16_rpn_224": {"depth": 2},
    "vit_srelpos_small_patch16_224": {"depth": 2},
    "samvit_base_patch16_224": {"depth": 2},
    "vitamin_small_224": {},
    "volo_d1_224": {},
}

# Billions of parameters: traced at reduced depth, as the row says.
SHORTENED: list[tuple[str, dict[str, Any]]] = [
    ("vit_giant*_sapiens2", {"depth": 4, "num_kv_heads": (24, 12, 12, 24)}),
    ("vit_5b_*_sapiens2", {"depth": 4, "num_kv_heads": (32, 16, 16, 32)}),
    ("vit_[57]b_*", {"depth": 4}),
    ("*gigantic*", {"depth": 4}),
    ("*enormous*", {"depth": 4}),
    ("aimv2_[13]b_*", {"depth": 4}),
    ("vit_giant*", {"depth": 4}),
    ("naflexvit_giant*", {"depth": 4}),
    ("eva_giant*", {"depth": 4}),
    ("beit3_giant*", {"depth": 4}),
    ("swinv2_cr_giant*", {"depths": (2, 2, 4, 2)}),
    ("davit_giant*", {"depths": (1, 1, 4, 1)}),
]


def cases() -> list[Case]:
    found = []
    for family in timm.list_modules():
        for name in timm.list_models(module=family):
            small = name in EXECUTED or name in REDUCED or name.startswith("test_")
            build = _build_small if small else _build
            found.append(Case(name, family, partial(build, name), executed=small))
    return found


def _build(name: str) -> Built:
    """At the published size: tensors without data cost nothing."""
    options = next((options for pattern, options in SHORTENED if fnmatch(name, pattern)), {})
    model = timm.create_model(name, pretrained=False, **options).eval()
    return Built(model, (_example(model, model.default_cfg["input_size"][-1]),), _said(options))


def _build_small(name: str) -> Built:
    options = REDUCED.get(name, {})
    model = timm.create_model(name, pretrained=False, **options).eval()
    published = model.default_cfg["input_size"][-1]
    if not model.default_cfg.get("fixed_input_size"):
        published = next((size for size in SIZES if size < published and _runs(model, size)), published)
    return Built(model, (_example(model, published),), _said(options))


def _said(options: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())


def _example(model: nn.Module, size: int) -> Example:
    # Two images: for one, torch's backward of batch norm gives wrong gradients on the CPU where they come in permuted.
    return Example(torch.randn(2, model.default_cfg["input_size"][0], size, size))


def _runs(model: nn.Module, size: int) -> bool:
    example = _example(model, size)
    try:
        with torch.no_grad():
            example.call(model, example.inputs)
    except Exception:
        return False
    return True
