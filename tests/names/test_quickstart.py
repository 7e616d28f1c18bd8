"""What people write with Torch-Pruning 1.x, as they write it: README, quick start, transformers, sparse training."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer, resnet18, resnet50

import torch_pruning as tp

pytestmark = pytest.mark.models


def test_low_level_by_a_group() -> None:
    model = resnet18().eval()
    DG = tp.DependencyGraph().build_dependency(model, example_inputs=torch.randn(1, 3, 64, 64))  # noqa: N806
    group = DG.get_pruning_group(model.conv1, tp.prune_conv_out_channels, idxs=[2, 6, 9])
    if DG.check_pruning_group(group):  # avoid full pruning, i.e., channels=0
        group.prune()
    assert model.conv1.out_channels == model.bn1.num_features == model.layer2[0].downsample[0].in_channels == 61
    assert "prune_conv_in_channels on layer2.0.downsample.0" in group.details()
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize("build", [resnet18, resnet50])
def test_high_level(build: Any) -> None:
    model = build().eval()
    example_inputs = torch.randn(1, 3, 64, 64)
    imp = tp.importance.GroupMagnitudeImportance(p=2)
    ignored_layers = []
    for m in model.modules():
        if isinstance(m, torch.nn.Linear) and m.out_features == 1000:
            ignored_layers.append(m)
    pruner = tp.pruner.BasePruner(
        model, example_inputs, importance=imp, pruning_ratio=0.5, ignored_layers=ignored_layers, round_to=8
    )
    tp.utils.print_tool.before_pruning(model)
    base_macs, base_nparams = tp.utils.count_ops_and_params(model, example_inputs)
    pruner.step()
    text = tp.utils.print_tool.after_pruning(model, do_print=False)
    macs, nparams = tp.utils.count_ops_and_params(model, example_inputs)
    assert "=> (conv1): Conv2d(3, 32" in text
    assert 0.2 < macs / base_macs < 0.3
    assert 0.2 < nparams / base_nparams < 0.35
    assert model(example_inputs).shape == (1, 1000)


def test_iterative_with_gradients_in_between() -> None:
    model = resnet18(num_classes=10)
    example_inputs, iterative_steps = torch.randn(2, 3, 32, 32), 2
    imp = tp.importance.GroupTaylorImportance()
    pruner = tp.pruner.BasePruner(
        model, example_inputs, importance=imp, iterative_steps=iterative_steps, pruning_ratio=0.5,
        global_pruning=True, isomorphic=True, ignored_layers=[model.fc],
    )  # fmt: skip
    for _ in range(iterative_steps):
        if isinstance(imp, tp.importance.TaylorImportance):
            loss = model(example_inputs).square().sum()
            loss.backward()  # before pruner.step()
        pruner.step()
        model.zero_grad()
        model(example_inputs).sum().backward()
    channels = sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    whole = sum(m.out_channels for m in resnet18().modules() if isinstance(m, nn.Conv2d))
    assert 0.3 < channels / whole < 0.7


def test_hessian_by_sample() -> None:
    model = resnet18(num_classes=10).eval()
    inputs, targets = torch.randn(3, 3, 32, 32), torch.tensor([1, 2, 3])
    imp = tp.importance.GroupHessianImportance()
    pruner = tp.pruner.MetaPruner(model, inputs, importance=imp, pruning_ratio=0.5, ignored_layers=[model.fc])
    loss = F.cross_entropy(model(inputs), targets, reduction="none")
    imp.zero_grad()  # clear gradients
    for one in loss:
        model.zero_grad()  # clear gradients
        one.backward(retain_graph=True)  # single-sample gradient
        imp.accumulate_grad(model)  # accumulate g^2
    pruner.step()
    assert model.layer4[1].conv2.out_channels == 256
    assert model(inputs).shape == (3, 10)


def test_interactive_steps_that_change_what_goes() -> None:
    model = resnet18(num_classes=10).eval()
    example_inputs = torch.randn(1, 3, 32, 32)
    imp = tp.importance.MagnitudeImportance()
    pruner = tp.pruner.MagnitudePruner(model, example_inputs, imp, pruning_ratio=0.5, ignored_layers=[model.fc])
    for group in pruner.step(interactive=True):
        dep, idxs = group[0]  # get the idxs
        target_module = dep.target.module  # get the root module
        assert dep.handler == dep.pruning_fn
        assert isinstance(target_module, nn.Conv2d)
        group.prune(idxs[: len(idxs) // 2])
    assert model.conv1.out_channels == 48
    assert model(example_inputs).shape == (1, 10)


def test_sparse_training() -> None:
    model = resnet18(num_classes=10)
    inputs, targets = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    pruner = tp.pruner.GroupNormPruner(
        model, inputs, importance=tp.importance.GroupMagnitudeImportance(), reg=1e-3, ignored_layers=[model.fc]
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        pruner.update_regularizer()  # if necessary
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()  # after loss.backward()
        plain = model.bn1.weight.grad.clone()
        pruner.regularize(model)  # before optimizer.step()
        assert ((model.bn1.weight.grad - plain) * model.bn1.weight.sign() > 0).all()  # towards zero
        optimizer.step()


def test_vision_transformer_by_heads_and_ratios() -> None:
    model = VisionTransformer(32, 16, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10).eval()
    example_inputs = torch.randn(1, 3, 32, 32)
    num_heads = {m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    pruner = tp.pruner.BasePruner(
        model, example_inputs, tp.importance.GroupMagnitudeImportance(), global_pruning=False, pruning_ratio=0.5,
        pruning_ratio_dict={model.conv_proj: 0.25}, num_heads=num_heads, prune_num_heads=True, head_pruning_ratio=0.5,
        ignored_layers=[model.heads], unwrapped_parameters=[(model.class_token, 2), (model.encoder.pos_embedding, 2)],
    )  # fmt: skip
    pruner.step()
    assert model.conv_proj.out_channels == model.class_token.shape[2] == 24
    assert model.encoder.layers[0].self_attention.num_heads == 2
    assert model.encoder.layers[0].mlp[0].out_features == 32
    assert model(example_inputs).shape == (1, 10)


def test_llama_with_the_usual_hints() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=32,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    inputs = torch.arange(6)[None]
    num_heads: dict[nn.Module, int] = {}
    for name, m in model.named_modules():
        if name.endswith("self_attn"):
            num_heads[m.q_proj] = model.config.num_attention_heads
            num_heads[m.k_proj] = num_heads[m.v_proj] = model.config.num_key_value_heads
    pruner = tp.pruner.BasePruner(
        model, example_inputs=inputs, importance=tp.importance.GroupMagnitudeImportance(p=2, group_reduction="mean"),
        global_pruning=False, pruning_ratio=0.5, ignored_layers=[model.lm_head], num_heads=num_heads,
        prune_num_heads=True, prune_head_dims=False, head_pruning_ratio=0.5, round_to=4,
        output_transform=lambda out: out.logits,
    )  # fmt: skip
    for g in pruner.step(interactive=True):
        g.prune()
    attention = model.model.layers[0].self_attn
    assert model.model.embed_tokens.embedding_dim == model.lm_head.in_features == 32
    assert model.model.layers[0].mlp.gate_proj.out_features == 48
    assert attention.q_proj.out_features == 32
    assert attention.k_proj.out_features == 16
    assert attention.head_dim == 8
    assert model(inputs).logits.shape == (1, 6, 50)


def test_bert_with_dict_inputs_and_a_transform_of_outputs() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    tokens = {"input_ids": torch.arange(6)[None], "attention_mask": torch.ones(1, 6, dtype=torch.long)}
    num_heads, ignored_layers = {}, [model.classifier]
    for m in model.modules():
        if isinstance(m, transformers.models.bert.modeling_bert.BertSelfAttention):
            num_heads[m.query] = num_heads[m.key] = num_heads[m.value] = m.num_attention_heads
    pruner = tp.pruner.BasePruner(
        model, tokens, importance=tp.importance.MagnitudeImportance(p=2), pruning_ratio=0.5,
        output_transform=lambda out: out.logits.sum(), num_heads=num_heads, ignored_layers=ignored_layers,
    )  # fmt: skip
    pruner.step()
    attention = model.bert.encoder.layer[0].attention.self
    assert model.bert.embeddings.word_embeddings.embedding_dim == 16
    assert attention.query.out_features == 16
    assert model.bert.encoder.layer[0].intermediate.dense.out_features == 24
    assert model(**tokens).logits.shape == (1, 2)


def test_saving_as_usual(tmp_path: Any) -> None:
    model = resnet18(num_classes=10).eval()
    example_inputs = torch.randn(1, 3, 32, 32)
    pruner = tp.pruner.BasePruner(model, example_inputs, tp.importance.MagnitudeImportance(), ignored_layers=[model.fc])
    pruner.step()
    torch.save({"model": model.state_dict(), "pruning": pruner.pruning_history()}, tmp_path / "model.pth")
    loaded = torch.load(tmp_path / "model.pth", weights_only=True)
    fresh = resnet18(num_classes=10).eval()
    DG = tp.DependencyGraph().build_dependency(fresh, example_inputs=example_inputs)  # noqa: N806
    DG.load_pruning_history(loaded["pruning"])
    fresh.load_state_dict(loaded["model"])
    assert torch.equal(fresh(example_inputs), model(example_inputs))
    model.zero_grad()  # clear gradients to avoid a large file
    torch.save(model, tmp_path / "whole.pth")
    whole = torch.load(tmp_path / "whole.pth", weights_only=False)
    assert torch.equal(whole(example_inputs), model(example_inputs))
