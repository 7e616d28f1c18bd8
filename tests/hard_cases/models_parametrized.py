"""Recurrent layers, embeddings, and weights that are computed: norms, standardisation, masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune


class lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 7)
        self.rnn = nn.LSTM(7, 8, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, (h, c) = self.rnn(self.embed(x))
        return self.head(out) + self.head(h[-1] + c[-1])[:, None]


class lstm_stacked_bidirectional(nn.Module):
    """All layers and directions share one state tensor, so one width."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 8, num_layers=2, bidirectional=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class lstm_projected(nn.Module):
    """torch knows that there is a projection by its width, so the width that it projects stays."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 8, proj_size=4, batch_first=True)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class gru_with_state(nn.Module):
    """A start state that the model makes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 8
        self.rnn = nn.GRU(6, 8, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        start = torch.zeros(1, x.shape[0], self.hidden, dtype=x.dtype)
        return self.head(self.rnn(x, start)[0])


class plain_rnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 8, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class cells_by_hand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTMCell(6, 8)
        self.second = nn.GRUCell(8, 7)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], self.first.hidden_size)
        g = x.new_zeros(x.shape[0], self.second.hidden_size)
        for step in x.unbind(1):
            h, c = self.first(step, (h, c))
            g = self.second(h, g)
        return self.head(g)


class embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8, padding_idx=0)
        self.places = nn.Embedding(6, 8)
        self.bag = nn.EmbeddingBag(11, 7, mode="sum")
        self.head = nn.Linear(8, 5)
        self.head_bag = nn.Linear(7, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(x.relu()).sum(1) + self.head_bag(self.bag(ids))


class tied_embeddings(nn.Module):
    """The table is the head as well: one Parameter, in two modules, before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.mlp = nn.Linear(8, 12)
        self.back = nn.Linear(12, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.head(x + self.back(F.gelu(self.mlp(x))))


class StandardisedConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        mean = weight.mean((1, 2, 3), keepdim=True)
        deviation = weight.std((1, 2, 3), keepdim=True) + 1e-5
        return self._conv_forward(x, (weight - mean) / deviation, self.bias)


class weight_standardisation(nn.Module):
    """Statistics over the inputs of each filter: outputs pass, inputs do not."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = StandardisedConv(8, 6, 1)
        self.c = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


class standardised_by_batch_norm(weight_standardisation):
    """The same through a batch norm over filters laid out as channels, as timm does."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        w = self.b.weight
        w = F.batch_norm(w.reshape(1, w.shape[0], -1), None, None, training=True, eps=1e-6).reshape_as(w)
        return self.c(F.conv2d(x, w, self.b.bias).relu())


class weight_norm(nn.Module):
    """weight = v * g / norm(v): removed filters are 0 / 0 when masked."""

    def __init__(self) -> None:
        super().__init__()
        self.a = parametrizations.weight_norm(nn.Conv2d(3, 8, 3, padding=1))
        self.b = parametrizations.weight_norm(nn.Conv2d(8, 6, 1))
        self.c = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


class weight_norm_by_hooks(weight_norm):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.a = torch.nn.utils.weight_norm(nn.Conv2d(3, 8, 3, padding=1))
        self.b = torch.nn.utils.weight_norm(nn.Conv2d(8, 6, 1))
        self.c = nn.Conv2d(6, 5, 1)


class nearest_code(nn.Module):
    """What a normalised weight gives only decides which row of a table comes next: 0 / 0 picks one as well."""

    def __init__(self) -> None:
        super().__init__()
        self.a = parametrizations.weight_norm(nn.Linear(6, 8))
        self.b = nn.Linear(8, 4)
        self.codes = nn.Buffer(torch.randn(40, 4))
        self.c = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        distances = torch.cdist(self.b(self.a(x).relu()), self.codes)
        return self.c(F.embedding(distances.argmin(1), self.codes))


class spectral_norm(nn.Module):
    """The largest singular value, by power iteration with vectors in buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.a = parametrizations.spectral_norm(nn.Linear(6, 8))
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


class masked_by_torch(nn.Module):
    """torch.nn.utils.prune: weight_orig and a mask buffer, multiplied in a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)
        prune.random_unstructured(self.a, "weight", 0.3)
        prune.ln_structured(self.b, "weight", 0.3, n=2, dim=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


_pixels = images(2, 3, 4, 4)


_tokens = images(2, 3, 6)


_rows = images(4, 6)


_ids = lambda: torch.randint(1, 11, (2, 6))  # noqa: E731  (a maker, as `images` gives them)

CASES = (
    Case(
        lstm,
        _tokens,
        (Units("embed:0 rnn.weight_ih_l0:1", 7), Units("rnn.weight_ih_l0:0 rnn.weight_hh_l0:1 head:1", 8)),
    ),
    Case(
        lstm_stacked_bidirectional,
        _tokens,
        (Units("rnn.weight_hh_l0:1 rnn.weight_hh_l1_reverse:0 rnn.weight_ih_l1:1 head:1", 8),),
    ),
    Case(
        lstm_projected,
        _tokens,
        (Units("rnn.weight_hr_l0:0 rnn.weight_hh_l0:1 head:1", 4),),
        (Frozen("rnn.weight_hr_l0:1", "a projection is told by its width", "self.rnn(x)"),),
    ),
    Case(gru_with_state, _tokens, (Units("rnn.weight_ih_l0:0 rnn.weight_hh_l0:1 head:1", 8),)),
    Case(plain_rnn, _tokens, (Units("rnn.weight_ih_l0:0 rnn.weight_hh_l0:1 head:1", 8),)),
    Case(
        cells_by_hand,
        _tokens,
        (
            Units("first.weight_ih:0 first.weight_hh:1 second.weight_ih:1", 8),
            Units("second.weight_ih:0 second.weight_hh:1 head:1", 7),
        ),
    ),
    Case(
        embeddings,
        _ids,
        (Units("words:1 places:1 head:1", 8), Units("bag:1 head_bag:1", 7)),
        (Frozen("words:0", "vocabulary", "self.words(ids)"),),
    ),
    Case(tied_embeddings, _ids, (Units("words:1 mlp:1 back:0", 8), Units("mlp:0 back:1", 12))),
    Case(
        weight_standardisation,
        _pixels,
        (Units("a:0 b:1", 8, reason="std", line="weight.std("), Units("b:0 c:1", 6)),
    ),
    Case(
        standardised_by_batch_norm,
        _pixels,
        (Units("a:0 b:1", 8, reason="batch norm", line="F.batch_norm("), Units("b:0 c:1", 6)),
    ),
    Case(
        weight_norm,
        _pixels,
        (
            Units(
                "a.parametrizations.weight.original0:0 a.parametrizations.weight.original1:0 "
                "b.parametrizations.weight.original1:1",
                8,
            ),
            Units("b.parametrizations.weight.original0:0 b.parametrizations.weight.original1:0 c:1", 6),
        ),
    ),
    Case(
        weight_norm_by_hooks,
        _pixels,
        (Units("a.weight_g:0 a.weight_v:0 b.weight_v:1", 8), Units("b.weight_g:0 b.weight_v:0 c:1", 6)),
    ),
    Case(
        nearest_code,
        images(64, 6),
        (
            Units("a.parametrizations.weight.original0:0 a.parametrizations.weight.original1:0 a.bias:0 b:1", 8),
            Units("b:0 codes:1 c:1", 4),
        ),
    ),
    Case(
        spectral_norm,
        _rows,
        (
            Units("a.parametrizations.weight.original:0 a.parametrizations.weight.0._u:0 b:1", 8),
            Units("b:0 c:1", 7),
        ),
        train=False,  # each run in training mode is another step of the power iteration
    ),
    Case(
        masked_by_torch,
        _rows,
        (Units("a.weight_orig:0 a.weight_mask:0 b.weight_orig:1", 8), Units("b.weight_orig:0 b.weight_mask:0 c:1", 7)),
    ),
)
