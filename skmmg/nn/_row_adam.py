"""Adam for a large table of which a step needs few rows."""

from __future__ import annotations

import torch
from torch import Tensor

_BETAS = (0.9, 0.999)
_EPS = 1e-8


class RowAdam:
    """Adam on some rows of a table at a time; the other rows, and their moments, stay.

    The numbers are those of `torch.optim.SparseAdam`, which sorts and copies gradients several
    times over: a step takes about half of its time.

    Parameters
    ----------
    table : Tensor of shape (n_rows, channels)
        Changed in place; it gets no gradient.
    lr : float
        Learning rate.

    References
    ----------
    Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn._row_adam import RowAdam
    >>> table = torch.zeros(3, 2)
    >>> adam, rows = RowAdam(table, lr=0.5), torch.tensor([0, 2])
    >>> taken = adam.take(rows)
    >>> taken.sum().backward()
    >>> adam.step(rows, taken)
    >>> table
    tensor([[-0.5000, -0.5000],
            [ 0.0000,  0.0000],
            [-0.5000, -0.5000]])
    """

    def __init__(self, table: Tensor, lr: float) -> None:
        self.table, self.lr, self.n_steps = table, lr, 0
        self.mean, self.square = torch.zeros_like(table), torch.zeros_like(table)

    def take(self, rows: Tensor) -> Tensor:
        """A copy of some rows, each named once, that collects a gradient."""
        return self.table.index_select(0, rows).requires_grad_()

    @torch.no_grad()
    def step(self, rows: Tensor, taken: Tensor) -> None:
        """Put the rows back, one step down the gradient that `taken` has."""
        assert taken.grad is not None
        self.n_steps += 1
        correction = [1 - beta**self.n_steps for beta in _BETAS]
        mean = self.mean.index_select(0, rows).lerp_(taken.grad, 1 - _BETAS[0])
        square = self.square.index_select(0, rows).mul_(_BETAS[1])
        square.addcmul_(taken.grad, taken.grad, value=1 - _BETAS[1])
        self.mean.index_copy_(0, rows, mean)
        self.square.index_copy_(0, rows, square)
        size = self.lr * correction[1] ** 0.5 / correction[0]
        self.table.index_copy_(0, rows, taken.addcdiv(mean, square.sqrt_().add_(_EPS), value=-size))
