"""Adjacency as a sparse matrix, as in networks on graphs."""

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp


class Propagation(nn.Module):
    """Features of nodes, summed over neighbours twice."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.layout = layout

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        ones = torch.ones(edges.shape[1], dtype=x.dtype)
        neighbours = torch.sparse_coo_tensor(edges, ones, (len(x), len(x))).coalesce()
        if self.layout == "csr":
            neighbours = neighbours.to_sparse_csr()
        x = torch.relu(neighbours @ self.first(x))
        return self.last(torch.relu(neighbours @ self.second(x)))


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_widths_beside_a_sparse_matrix(layout: str) -> None:
    torch.manual_seed(0)
    model = Propagation(layout)
    inputs = torch.randn(5, 6), torch.randint(0, 5, (2, 9))
    plan = tp.plan(model, inputs, pruning_ratio=0.5)
    assert [len(removed) for removed in plan.removed["second.weight"].values()] == [4, 4]
    assert tp.verify(model, plan).exact
