"""Maps fitted by gradient: torch fits them, numpy applies them.

Both begin at a closed form and are stopped where pairs that were left out stop gaining; where they
never gain, the closed form is what is returned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.bridges.maps import Floats, Linear
from ...retrieval.values.errors import missing_extra
from .maps import Dilation, ResidualMlp

_HELD = 0.2  # of the pairs decide when to stop
_PATIENCE = 30  # rounds without a gain
_ROUNDS = 200
_BATCH = 256
_TEMPERATURE = 0.1


def fit_mlp(
    source: Floats,
    target: Floats,
    base: Linear,
    *,
    hidden: int = 256,
    decay: float = 0.01,
    rate: float = 1e-3,
    seed: int = 0,
) -> ResidualMlp:
    """Fit one hidden layer that corrects a linear map, by the cosine with the target.

    source, target: f32[n, s] and f32[n, t], pairs.
    base:           the map to begin with; the correction is zero at first.

    Raises:
        MissingExtraError: torch is not installed.
    """
    torch = _torch()
    torch.manual_seed(seed)
    x, y = (torch.from_numpy(np.ascontiguousarray(each)) for each in (source, target))
    weight = torch.from_numpy(base.weight.copy()).requires_grad_()
    bias = torch.from_numpy(base.bias.copy()).requires_grad_()
    inner = torch.randn(x.shape[1], hidden) * (2 / x.shape[1]) ** 0.5
    inner.requires_grad_()
    inner_bias = torch.zeros(hidden, requires_grad=True)
    outer = torch.zeros(hidden, y.shape[1], requires_grad=True)

    def loss(rows: Any) -> Any:
        made = x[rows] @ weight + bias + torch.relu(x[rows] @ inner + inner_bias) @ outer
        return 1 - torch.nn.functional.cosine_similarity(made, y[rows]).mean()

    found = _descend([weight, bias, inner, inner_bias, outer], loss, len(x), rate, decay, seed)
    weights, biases, first, first_bias, second = found
    return ResidualMlp(weights, biases, first, first_bias, second, base.unit)


def refine(
    dilation: Dilation,
    new: Floats,
    old: Floats,
    *,
    labels: NDArray[np.int64] | None = None,
    rate: float = 2e-2,
    seed: int = 0,
) -> Dilation:
    """Refine BT²'s basis by gradient, V exp(S) with S skew-symmetric: new with new stays as it is.

    The losses are BT²'s for frozen encoders (Zhou et al., ICCV 2023): the first block of a new
    vector matches the old vector of its row by the cosine, and is told apart from the old vectors
    of others (of other labels, where there are labels).

    new, old: f32[n, d] and f32[n, o], pairs.
    labels:   i64[n], None where each row is a class of its own.

    Raises:
        MissingExtraError: torch is not installed.
    """
    torch = _torch()
    torch.manual_seed(seed)
    x = torch.from_numpy(dilation.phi(new))
    y = torch.nn.functional.normalize(torch.from_numpy(np.ascontiguousarray(old)))
    kinds = torch.from_numpy(np.arange(len(new)) if labels is None else labels)
    free = torch.zeros(x.shape[1], x.shape[1], requires_grad=True)

    def loss(rows: Any) -> Any:
        turn = torch.matrix_exp(free - free.T)
        first = torch.nn.functional.normalize(x[rows] @ turn[:, : dilation.old])
        match = 1 - (first * y[rows]).sum(dim=1).mean()
        scores = torch.log_softmax(first @ y[rows].T / _TEMPERATURE, dim=1)
        same = (kinds[rows][:, None] == kinds[rows][None]).float()
        apart = -(scores * same).sum(dim=1) / same.sum(dim=1)
        return match + apart.mean()

    (best,) = _descend([free], loss, len(x), rate, 0.0, seed)
    turn = torch.matrix_exp(torch.from_numpy(best - best.T).double()).numpy()
    basis = (dilation.basis.astype(np.float64) @ turn).astype(np.float32)
    return Dilation(basis, dilation.norm, dilation.old)


def _descend(
    parameters: list[Any],
    loss: Callable[[Any], Any],
    n: int,
    rate: float,
    decay: float,
    seed: int,
) -> list[Floats]:
    """Return the parameters as arrays where the loss of the pairs left out was least."""
    torch = _torch()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    held, rest = order[: max(1, int(_HELD * n))], order[max(1, int(_HELD * n)) :]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)

    def left_out() -> float:
        with torch.no_grad():
            return float(loss(held))

    best, kept, waited = left_out(), [p.detach().clone() for p in parameters], 0
    for _ in range(_ROUNDS):
        for rows in rest[torch.randperm(len(rest))].split(_BATCH):
            optimiser.zero_grad()
            loss(rows).backward()
            optimiser.step()
        now = left_out()
        if now < best:
            best, kept, waited = now, [p.detach().clone() for p in parameters], 0
        else:
            waited += 1
            if waited >= _PATIENCE:
                break
    return [each.numpy() for each in kept]


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise missing_extra("fitting a map by gradient", "st") from None
    return torch
