"""Train a module on nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Any

import torch
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from skmmg.training._batches import BatchLoader, BatchPlan
from skmmg.training._net import GraphLoader, GraphNet, NodeDataset
from skmmg.training._parallel import Ranks
from skmmg.training._stopping import make_stopping

# Fused: all weights at once; one after the other they are much of a small model's step. SGD's fails
# where a weight gets its first gradient late, as that of a node type that no batch has seen.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}

_generators = RLock()


def train(
    module: nn.Module,
    data: NodeDataset,
    validation: NodeDataset | None,
    *,
    criterion: type[nn.Module] | nn.Module,
    optimizer: str,
    lr: float,
    weight_decay: float,
    lr_scheduler: str | None,
    max_epochs: int,
    early_stopping: str | None,
    n_iter_no_change: int,
    tol: float,
    device: torch.device,
    precision: str = "float32",
    plan: BatchPlan | None = None,
    verbose: int = 0,
    callbacks: Sequence[tuple[str, Callback]] = (),
) -> GraphNet:
    """Fit `module` in place and return the net, whose history has a row per epoch.

    With a plan by mini-batches, which the processes of torch's default group share.
    """
    all_callbacks = list(callbacks)
    if early_stopping is not None:
        stopping = make_stopping(early_stopping, n_iter_no_change, tol)
        all_callbacks.append(("early_stopping", stopping))
    if lr_scheduler is not None:
        all_callbacks.append(("lr_scheduler", _make_scheduler(lr_scheduler, lr, max_epochs)))
    silent: dict[str, Any] = {} if verbose else {"callbacks__print_log": None}
    loaders: dict[str, Any] = {"iterator_train": GraphLoader, "iterator_valid": GraphLoader}
    if plan is not None:
        module = _share(module, plan.seed, device)
        loaders = {
            "iterator_train": partial(BatchLoader, plan=plan, training=True),
            "iterator_valid": partial(BatchLoader, plan=plan, training=False),
        }
    net = GraphNet(
        module,
        criterion=criterion,
        optimizer=OPTIMIZERS[optimizer],
        optimizer__weight_decay=weight_decay,
        lr=lr,
        max_epochs=max_epochs,
        train_split=None if validation is None else lambda dataset, y=None: (dataset, validation),
        device=device,
        precision=precision,
        verbose=verbose,
        callbacks=all_callbacks,
        **loaders,
        **silent,
    )
    return net.fit(data)


def _share(module: nn.Module, seed: int, device: torch.device) -> nn.Module:
    """The module as the processes train it together, each with dropout of its own."""
    ranks = Ranks.current()
    if ranks.count > 1:
        _seed(seed + ranks.rank, device)
    return ranks.wrap(module)


def _seed(seed: int, device: torch.device) -> None:
    """Seed the CPU and the device; `torch.manual_seed` is for all GPUs."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _make_scheduler(name: str, lr: float, max_epochs: int) -> LRScheduler:
    if name == "cosine":
        return LRScheduler(CosineAnnealingLR, T_max=max_epochs)
    n_steps = max_epochs + 1  # OneCycleLR counts its first step when it is made
    warm_up = max(0.05, 2 / n_steps)  # at least one step: torch divides by their number
    return LRScheduler(OneCycleLR, max_lr=lr, total_steps=n_steps, pct_start=warm_up)


@contextmanager
def private_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside, and leave its global generators outside as they were.

    They belong to the process: threads that train wait for each other.
    """
    devices: list[Any] = [device] if device.type == "cuda" else []
    with _generators, torch.random.fork_rng(devices=devices):
        _seed(seed, device)
        yield


@contextmanager
def without_gradients() -> Iterator[None]:
    """Infer as in `torch.no_grad`, even if the caller is in inference mode.

    Tensors that a graph keeps have to serve training as well, and those of inference mode do not.
    """
    with torch.inference_mode(False), torch.no_grad():
        yield


def choose_device(device: str) -> torch.device:
    """The device of that name, with its number; "auto" takes a GPU where there is one.

    Raises
    ------
    ValueError
        If torch cannot compute on it here, or it is neither a CPU nor a CUDA device.
    """
    name = device
    if device == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    advice = (
        'Set device="cpu", or "auto", which takes a GPU where torch finds one; `set_params` does '
        "it for a fitted estimator, too."
    )
    try:
        chosen = torch.ones(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch is built without it
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"device={device!r} cannot be used here: {reason}. {advice}") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device has to be a CPU or a CUDA device, got {device!r}. {advice}")
    return chosen
