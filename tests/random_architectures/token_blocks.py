"""Blocks on tokens: [B, T, C] -> [B, T, C']."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from random_architectures.blocks import BlockModule


def norm(variant: int, width: int) -> nn.Module:
    # Without an epsilon RMSNorm adds the rounding error of its dtype, which shows in the derivative of a single unit.
    rms = nn.RMSNorm(width, eps=1e-5)
    return (nn.Identity(), nn.LayerNorm(width), rms, nn.LayerNorm(width, bias=False))[variant % 4]


class Mlp(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.norm = norm(self.variant, channels)
        self.up, self.down = nn.Linear(channels, width), nn.Linear(width, channels, bias=self.variant % 2 == 0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.act(self.up(self.norm(x))))


class GatedMlp(BlockModule):
    """Gate and value from two layers, or from one whose halves are taken in either order."""

    def build(self, channels: int, width: int) -> None:
        self.norm = norm(self.variant, channels)
        fused = self.variant // 4
        self.up = nn.Linear(channels, width * (2 if fused else 1))
        self.gate = None if fused else nn.Linear(channels, width)
        self.down = nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        if self.gate is not None:
            return x + self.down(self.act(self.gate(y)) * self.up(y))
        u, v = self.up(y).chunk(2, -1)
        return x + self.down(self.act(v) * u if self.variant % 2 else self.act(u) * v)


class Attention(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.heads = 2
        self.norm = norm(self.variant, channels)
        self.qkv, self.out = nn.Linear(channels, 3 * width), nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.variant % 2:
            attended = F.scaled_dot_product_attention(q, k, v)
        else:
            attended = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        return x + self.out(attended.transpose(1, 2).reshape(b, t, -1))


class GroupedQuery(BlockModule):
    """More query heads than key-value heads, repeated in one of four ways; a norm on queries and keys."""

    def build(self, channels: int, width: int) -> None:
        self.heads, self.repeats, self.head_dim = 2, 1 + self.variant % 3, width // 2
        self.q = nn.Linear(channels, self.repeats * width)
        self.k, self.v = nn.Linear(channels, width), nn.Linear(channels, width, bias=False)
        self.q_norm, self.k_norm = (norm(self.variant // 4 * 2, self.head_dim) for _ in range(2))
        self.out = nn.Linear(self.repeats * width, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.q_norm(self.q(x).view(b, t, self.heads * self.repeats, self.head_dim)).transpose(1, 2)
        k = self.k_norm(self.k(x).view(b, t, self.heads, self.head_dim)).transpose(1, 2)
        v = self.v(x).view(b, t, self.heads, self.head_dim).transpose(1, 2)
        if self.variant % 4 == 3:
            attended = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            attended = F.scaled_dot_product_attention(q, self._repeated(k), self._repeated(v), is_causal=True)
        return x + self.out(attended.transpose(1, 2).reshape(b, t, -1))

    def _repeated(self, x: Tensor) -> Tensor:
        if self.variant % 4 == 0:
            return x.repeat_interleave(self.repeats, 1)
        b, heads, t, d = x.shape
        wider = x[:, :, None].expand(b, heads, self.repeats, t, d)
        return wider.reshape(b, heads * self.repeats, t, d) if self.variant % 4 == 1 else wider.flatten(1, 2)


class Rotary(BlockModule):
    """Queries and keys turned by their position: halves, neighbours, or complex numbers; part of each head or all."""

    def build(self, channels: int, width: int) -> None:
        self.heads, self.head_dim = 2, width // 2
        self.style = self.variant % 4
        pairs = self.head_dim // (4 if self.style == 3 and self.head_dim % 4 == 0 else 2)
        self.turned = 2 * pairs
        self.q, self.k, self.v = (nn.Linear(channels, width, bias=self.variant < 4) for _ in range(3))
        self.out = nn.Linear(width, channels)
        self.register_buffer("frequencies", torch.rand(pairs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (layer(x).view(b, t, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        angles = torch.outer(torch.arange(t).to(x.dtype), self.frequencies)
        q, k = self._turn(q, angles), self._turn(k, angles)
        if self.variant // 4:
            attended = F.scaled_dot_product_attention(q, k, v, scale=self.head_dim**-0.5)
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(attended.transpose(1, 2).flatten(2))

    def _turn(self, x: Tensor, angles: Tensor) -> Tensor:
        cos, sin = angles.cos(), angles.sin()
        if self.style == 0:
            u, v = x.chunk(2, -1)
            return torch.cat([u * cos - v * sin, v * cos + u * sin], -1)
        if self.style == 1:
            u, v = x[..., ::2], x[..., 1::2]
            return torch.stack([u * cos - v * sin, v * cos + u * sin], -1).flatten(-2)
        if self.style == 2:
            turned = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous()) * torch.complex(cos, sin)
            return torch.view_as_real(turned).flatten(-2)
        turning, rest = x[..., : self.turned], x[..., self.turned :]
        cos, sin = (torch.cat([table, table], -1) for table in (cos, sin))
        u, v = turning.chunk(2, -1)
        return torch.cat([turning * cos + torch.cat([-v, u], -1) * sin, rest], -1)


class Latent(BlockModule):
    """Keys and values from a narrow latent, each head with a part that is shared by all heads."""

    def build(self, channels: int, width: int) -> None:
        self.heads, self.own, self.shared = 2, width // 2, 2
        self.q = nn.Linear(channels, self.heads * (self.own + self.shared))
        self.down = nn.Linear(channels, width + self.shared)
        self.rank = width
        self.norm = norm(self.variant, width)
        self.up = nn.Linear(width, self.heads * (self.own + self.own))
        self.out = nn.Linear(self.heads * self.own, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.q(x).view(b, t, self.heads, -1).transpose(1, 2)
        latent, common = self.down(x).split([self.rank, self.shared], -1)
        kv = self.up(self.norm(latent)).view(b, t, self.heads, -1).transpose(1, 2)
        k, v = kv.split([self.own, self.own], -1)
        k = torch.cat([k, common[:, None].expand(-1, self.heads, -1, -1)], -1)
        scores = q @ k.transpose(-2, -1) * (self.own + self.shared) ** -0.5
        return x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class MultiHead(BlockModule):
    def build(self, channels: int, width: int) -> None:
        heads = max(h for h in (1, 2, 4) if channels % h == 0)
        self.norm = norm(self.variant, channels)
        options = {"kdim": width, "vdim": width} if self.variant // 4 else {}
        self.before = nn.Linear(channels, width) if options else nn.Identity()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        memory = self.before(y)
        return x + self.attention(y, memory, memory, need_weights=self.variant % 2 == 0)[0]


class Encoder(BlockModule):
    def build(self, channels: int, width: int) -> None:
        heads = max(h for h in (1, 2, 4) if channels % h == 0)
        first = bool(self.variant % 2)
        layer = nn.TransformerDecoderLayer if self.variant // 2 % 2 else nn.TransformerEncoderLayer
        self.layer = layer(channels, heads, width, 0.0, batch_first=True, norm_first=first)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x.flip(1)) if self.variant // 2 % 2 else self.layer(x)


class LinearAttention(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.q, self.k, self.v = (nn.Linear(channels, width) for _ in range(3))
        self.out = nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.variant % 2:
            q, k = F.relu(self.q(x)), F.relu(self.k(x))
        else:
            q, k = F.elu(self.q(x)) + 1, F.elu(self.k(x)) + 1
        context = torch.einsum("btd,bte->bde", k, self.v(x))
        share = torch.einsum("btd,bd->bt", q, k.sum(1)) + 1.0
        return x + self.out(torch.einsum("btd,bde->bte", q, context) / share.unsqueeze(-1))


class Recurrent(BlockModule):
    def build(self, channels: int, width: int) -> None:
        layer = (nn.LSTM, nn.GRU, nn.RNN)[self.variant % 3]
        options = {"proj_size": width // 2} if layer is nn.LSTM and self.variant // 4 else {}
        directions = 1 + self.variant % 2
        self.layer = layer(
            channels,
            width,
            num_layers=1 + self.variant // 2 % 2,
            bidirectional=directions == 2,
            batch_first=True,
            **options,
        )
        self.out_channels = options.get("proj_size", width) * directions

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Cell(BlockModule):
    """A recurrent cell that is called step by step."""

    def build(self, channels: int, width: int) -> None:
        self.cell = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)[self.variant % 3](channels, width)
        self.width = width
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], self.width)
        memory = state
        steps = []
        for step in x[:, :4].unbind(1):
            if self.variant % 3 == 0:
                state, memory = self.cell(step, (state, memory))
            else:
                state = self.cell(step, state)
            steps.append(state)
        return torch.stack(steps, 1)


class StateSpace(BlockModule):
    """A causal convolution and a state for each channel, with steps that depend on the input."""

    def build(self, channels: int, width: int) -> None:
        self.width, self.states, self.rank = width, 3, 2
        self.enter, self.out = nn.Linear(channels, 2 * width), nn.Linear(width, channels)
        self.conv = nn.Conv1d(width, width, 3, padding=2, groups=width)
        self.select, self.steps = nn.Linear(width, self.rank + 2 * self.states), nn.Linear(self.rank, width)
        self.decay, self.skip = nn.Parameter(torch.randn(width, self.states)), nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        t = x.shape[1]
        y, gate = self.enter(x).chunk(2, -1)
        y = F.silu(self.conv(y.transpose(1, 2))[..., :t].transpose(1, 2))
        steps, write, read = self.select(y).split([self.rank, self.states, self.states], -1)
        steps = F.softplus(self.steps(steps))
        state = x.new_zeros(x.shape[0], self.width, self.states)
        outs = []
        for i in range(min(t, 3)):
            step = steps[:, i, :, None]
            state = torch.exp(-step * self.decay.exp()) * state + step * write[:, i, None] * y[:, i, :, None]
            outs.append((state * read[:, i, None]).sum(-1))
        mixed = torch.stack(outs, 1).mean(1, keepdim=True) + y * self.skip
        return x + self.out(mixed * self.act(gate))


class Convolved(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.norm = norm(self.variant, channels)
        self.a = nn.Conv1d(channels, 2 * width, 1)
        self.b = nn.Conv1d(width, width, 3, padding=1, groups=(1, 2, 4, width)[self.variant % 4])
        self.batch = nn.BatchNorm1d(width)
        self.c = nn.Conv1d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.glu(self.a(self.norm(x).transpose(1, 2)), 1)
        return x + self.c(self.act(self.batch(self.b(y)))).transpose(1, 2)


class Tied(BlockModule):
    """One weight that goes both ways."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Linear(channels, width, bias=self.variant % 2 == 0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.a(x))
        return x + (F.linear(y, self.a.weight.t()) if self.variant // 2 % 2 else y @ self.a.weight)


class Mixed(BlockModule):
    """Tokens are related by what does not know their channels: a Fourier transform, a cumulative sum, a softmax."""

    def build(self, channels: int, width: int) -> None:
        self.a, self.b = nn.Linear(channels, width), nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.variant % 4 == 0:
            y = torch.fft.fft(y, dim=1).real
        elif self.variant % 4 == 1:
            y = y.cumsum(1)
        elif self.variant % 4 == 2:
            y = y.softmax(1) * self.act(y)
        else:
            y = y.sort(1).values
        return x + self.b(y)


class Experts(BlockModule):
    """Every expert sees every token; a router weights them."""

    def build(self, channels: int, width: int) -> None:
        self.router = nn.Linear(channels, 3)
        self.experts = nn.ModuleList()
        if self.variant % 2:
            self.up = nn.Parameter(torch.randn(3, channels, width) * channels**-0.5)
            self.down = nn.Parameter(torch.randn(3, width, channels) * width**-0.5)
        else:
            self.experts.extend(nn.Sequential(nn.Linear(channels, width), nn.Linear(width, channels)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.router(x).softmax(-1)  # (batch, tokens, experts)
        if not self.experts:
            y = self.act(torch.einsum("btc,ecw->betw", x, self.up))
            return x + torch.einsum("betw,ewc,bte->btc", y, self.down, weights)
        return x + sum(weights[..., i, None] * self.act(expert(x)) for i, expert in enumerate(self.experts))


class Concatenated(BlockModule):
    """Joined along the channels in either order, or along the tokens."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Linear(channels, width)
        self.out_channels = channels + width
        self.b = None
        if self.variant % 3 == 2:
            self.b, self.extra = nn.Linear(width, channels), nn.Parameter(torch.randn(1, 1, channels))
            self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.a(x))
        if self.b is not None:
            return torch.cat([self.extra.expand(x.shape[0], -1, -1), x + self.b(y)], 1)
        return torch.cat([x, y] if self.variant % 3 else [y, x], -1)


TOKEN_BLOCKS: dict[str, type[BlockModule]] = {
    "mlp": Mlp,
    "gated_mlp": GatedMlp,
    "attention": Attention,
    "grouped_query": GroupedQuery,
    "rotary": Rotary,
    "latent": Latent,
    "multihead": MultiHead,
    "encoder": Encoder,
    "linear_attention": LinearAttention,
    "recurrent": Recurrent,
    "cell": Cell,
    "state_space": StateSpace,
    "convolved": Convolved,
    "tied": Tied,
    "mixed": Mixed,
    "experts": Experts,
    "concatenated": Concatenated,
}
