"""Four small networks of the usual kinds, for images [B, 1, 28, 28] of ten classes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 10


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: [B, in, H, W] -> [B, out, H / stride, W / stride]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet20(nn.Module):
    """Three stages of three residual blocks, 16, 32 and 64 channels wide (He et al., 2016, section 4.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        blocks, width = [], 16
        for stage, channels in enumerate((16, 32, 64)):
            for number in range(3):
                blocks.append(BasicBlock(width, channels, 2 if stage and not number else 1))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.stem(x)).mean(dim=(2, 3)))


class VGG(nn.Sequential):
    """Six 3x3 convolutions with batch norm and pooling between pairs, then two linear layers on the flattened map."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        width = 1
        for channels in (32, 64, 128):
            for _ in range(2):
                layers += [nn.Conv2d(width, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
                width = channels
            layers.append(nn.MaxPool2d(2))
        head = [nn.Flatten(), nn.Linear(width * 9, 128), nn.ReLU(), nn.Linear(128, CLASSES)]
        super().__init__(*layers, *head)


class InvertedResidual(nn.Module):
    """1x1 up, 3x3 depthwise, 1x1 down, and a shortcut where the shape stays (Sandler et al., 2018)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.adds = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


class MobileNet(nn.Sequential):
    """A strided stem, eight inverted residuals, and a linear classifier on the mean."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, 1, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6()]
        width = 16
        for channels, stride in ((16, 1), (24, 2), (24, 1), (40, 2), (40, 1), (40, 1), (64, 1), (64, 1)):
            layers.append(InvertedResidual(width, channels, stride))
            width = channels
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


class EncoderLayer(nn.Module):
    """Attention and a feed-forward net, each after a layer norm and beside a shortcut: [B, T, width], same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (batch, heads, tokens, head_dim)
        x = x + self.projection(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """Patches of 4x4 pixels, four encoder layers of width 96 with four heads, mean of the tokens."""

    def __init__(self, width: int = 96, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.positions = nn.Parameter(torch.randn(1, 49, width) * 0.02)
        self.layers = nn.Sequential(*(EncoderLayer(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.classifier(self.norm(self.layers(x)).mean(dim=1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": ResNet20,
    "vgg": VGG,
    "mobilenet": MobileNet,
    "vit": ViT,
}
