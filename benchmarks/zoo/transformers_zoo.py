"""Every transformers architecture that has a model: the base model and one with a head, tiny, with random weights.

A decoder that can continue from a cache is also run so: a prefill and one step after it, in one trace.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from inspect import signature
from itertools import product
from typing import Any

import torch
import transformers
from case import Built, Case
from torch import nn
from transformers import PretrainedConfig
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
from transformers_configs import tiny
from transformers_families import CONFIGS
from transformers_family_inputs import SKIPPED, with_what_the_family_needs
from transformers_further import further
from transformers_inputs import example, recipes
from transformers_media import Inputs, configs

from torch_pruning.trace.tracer import Example

PACKAGES = ("torch", "transformers")

# Of several heads a family is run with the first that it has.
_HEADS = (
    "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "CAUSAL_LM", "MASKED_LM", "SPEECH_SEQ_2_SEQ", "CTC",
    "IMAGE_CLASSIFICATION", "OBJECT_DETECTION", "UNIVERSAL_SEGMENTATION", "INSTANCE_SEGMENTATION",
    "SEMANTIC_SEGMENTATION", "DEPTH_ESTIMATION", "AUDIO_CLASSIFICATION", "VIDEO_CLASSIFICATION",
    "SEQUENCE_CLASSIFICATION", "QUESTION_ANSWERING", "VISUAL_QUESTION_ANSWERING", "IMAGE_TO_IMAGE",
    "ZERO_SHOT_OBJECT_DETECTION", "KEYPOINT_DETECTION", "KEYPOINT_MATCHING", "POSE_ESTIMATION", "IMAGE_MATTING",
    "TIME_SERIES_PREDICTION", "TEXT_TO_SPECTROGRAM", "TEXT_TO_WAVEFORM", "MASK_GENERATION", "RNNT", "TDT", "RETRIEVAL",
    "TEXT_RECOGNITION", "TABLE_RECOGNITION", "PRETRAINING", "BACKBONE",
)  # fmt: skip


def cases() -> list[Case]:
    """One for each model, by name of family and part."""
    transformers.logging.set_verbosity_error()
    return list(_cases())


def _cases() -> Iterator[Case]:
    for family in families():
        for part in ("base", "head"):
            if has_model(family, part):
                yield Case(f"{family}/{part}", family, partial(build, family, part), skip=SKIPPED.get(family, ""))


def has_model(family: str, part: str) -> bool:
    """Whether the library has a model for this part of a family."""
    if part == "base":
        return family in modeling_auto.MODEL_MAPPING_NAMES
    return any(family in _head_names(head) for head in _HEADS)


def families() -> list[str]:
    """The names of the architectures for which there is a model of any kind."""
    with_models = set(modeling_auto.MODEL_MAPPING_NAMES)
    for head in _HEADS:
        with_models |= set(_head_names(head))
    return [name for name in CONFIG_MAPPING_NAMES if name in with_models]


def _head_names(head: str) -> dict[str, Any]:
    names: dict[str, Any] = getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING_NAMES")
    return names


def model_classes(kind: type[PretrainedConfig], family: str, part: str) -> list[type[nn.Module]]:
    """The class of the "base" model of a family, or of each "head" that it has."""
    if part == "base":
        return [_first(_listed(modeling_auto.MODEL_MAPPING, modeling_auto.MODEL_MAPPING_NAMES[family], kind))]
    heads = [head for head in _HEADS if family in _head_names(head)]
    found = [_first(getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING")[kind]) for head in heads]
    return list(dict.fromkeys(found))


def _listed(mapping: Any, name: Any, kind: type[PretrainedConfig]) -> Any:
    """What a mapping has for a config; a class that its package does not export, from the module of the models."""
    try:
        return mapping[kind]
    except ValueError:
        return getattr(import_module(kind.__module__.replace(".configuration_", ".modeling_")), name)


def _first(found: Any) -> type[nn.Module]:
    kind: type[nn.Module] = found[0] if isinstance(found, (tuple, list)) else found
    return kind


def build(family: str, part: str) -> Built:
    """A model that runs, and what to call it with.

    Raises:
        Exception: what the library says, if no variant of the config gives a model that runs.
    """
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs, others = _running(family, part)
        if any(map(_cache_of, vars(model).values())):
            model.register_forward_pre_hook(_forget)
        transform = without_states if part == "head" else None
        examples = [Example(each, output_transform=transform) for each in (inputs, *others)]
        examples += further(family, part, model, inputs, transform)
        if continues(model, inputs):
            examples.append(Example(inputs, forward_fn=prefill_and_step))
            return Built(model, tuple(examples), "with a step from its cache")
    return Built(model, tuple(examples))


def _cache_of(value: Any) -> OrderedDict[Any, Any] | None:
    """What a cache of the model's own holds, if this is one."""
    held = getattr(value, "cache", None)
    return held if isinstance(held, OrderedDict) else None


def _forget(model: nn.Module, _: Any) -> None:
    """Empty such caches: what is in there was computed by the weights of an earlier run."""
    for value in vars(model).values():
        held = _cache_of(value)
        if held:
            held.clear()
            value.current_load = 0


def _running(family: str, part: str) -> tuple[nn.Module, Inputs, list[Inputs]]:
    """The first model that runs, what it runs with, and what gives it the media that this leaves out."""
    errors: list[Exception] = []
    for kind, adapt in product(model_classes(CONFIG_MAPPING[family], family, part), _VARIANTS):
        try:
            config = tiny(CONFIG_MAPPING[family], CONFIGS.get(family, {}))
            adapt(config)
            model = kind(_config_of(kind, config)).eval()
            tried = list(_tried(model, family, part, config, errors))
        except Exception as error:
            errors.append(error)
            continue
        if tried:
            return model, tried[0], tried[1:]
    for other in {f"{type(error).__name__}: {error}"[:200]: None for error in errors[1:]}:
        errors[0].add_note(other)
    raise errors[0]


def _config_of(kind: type[nn.Module], config: PretrainedConfig) -> PretrainedConfig:
    """The config, or one inside of it if the class is a model of that part."""
    wanted = getattr(kind, "config_class", None) or type(config)
    fitting = [each for each in configs(config) if isinstance(each, wanted)]
    return fitting[0] if fitting else config


def _tried(
    model: nn.Module, family: str, part: str, config: PretrainedConfig, errors: list[Exception]
) -> Iterator[Inputs]:
    """Inputs that run: the most complete of them, and one for each of the media that are not among those before."""
    seen: set[str] | None = None
    ahead = list(recipes(signature(model.forward).parameters))
    while ahead:
        recipe = ahead.pop(0)
        if seen is not None and (len(recipe.media) != 1 or seen.issuperset(recipe.media)):
            continue
        try:
            inputs = with_what_the_family_needs(family, part, config, example(model, config, recipe))
            with torch.no_grad():
                model(**copy.deepcopy(inputs))
        except Exception as error:
            errors.append(error)
            better = recipe.corrected(error)
            ahead[:0] = [better] if better else []
            continue
        seen = (seen or set()) | set(recipe.media)
        yield inputs


def continues(model: nn.Module, inputs: Inputs) -> bool:
    """Whether the model takes one more token after a cache of those before."""
    if set(inputs) != {"input_ids"} or "past_key_values" not in signature(model.forward).parameters:
        return False
    try:
        with torch.no_grad():
            prefill_and_step(model, copy.deepcopy(inputs))
    except Exception:
        return False
    return True


def without_states(outputs: Any) -> Any:
    """What a head gives: hidden states that come along with it would keep their width if they counted."""
    if not isinstance(outputs, dict):
        return outputs
    return {name: item for name, item in outputs.items() if "hidden_state" not in name} or outputs


def prefill_and_step(model: nn.Module, inputs: Inputs) -> Any:
    """The first outputs of a prefill and of one step from its cache."""
    first = model(**inputs, use_cache=True)
    second = model(input_ids=inputs["input_ids"][:, -1:], past_key_values=first.past_key_values, use_cache=True)
    return first[0], second[0]


def _as_it_is(config: PretrainedConfig) -> None:
    """The first thing to try."""


def _rotary_sections(config: PretrainedConfig) -> None:
    """Sections of a multimodal rotary embedding that fit small heads."""
    for each in configs(config):
        parameters = vars(each).get("rope_parameters")
        if isinstance(parameters, dict):
            half = int((vars(each).get("head_dim") or 8) * parameters.get("partial_rotary_factor", 1)) // 2
            parameters["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]


def _equal_heads(config: PretrainedConfig) -> None:
    """As many keys and values as queries."""
    for each in configs(config):
        for name in vars(each):
            heads = name.replace("key_value", "attention")
            if name != heads and vars(each).get(name) and vars(each).get(heads):
                setattr(each, name, vars(each)[heads])


_VARIANTS = (_as_it_is, _rotary_sections, _equal_heads)
