"""device="cuda": every tensor of a fit and of what follows is where it has to be.

The device is pretended (`pretend_device`), so that this is seen without a GPU; the tests marked
"gpu" are the same on a real one. Results are compared with those of the CPU, whose dropout draws
otherwise: what is compared has none.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pretend_device import CUDA, WrongDeviceError, pretend_device
from sklearn.utils import Bunch

from skmmg import (
    CrossModalRetriever,
    MultiModalGraph,
    MultiModalGraphClassifier,
    NodeEmbedder,
    stack_graphs,
)
from skmmg.datasets import make_multimodal_graph
from skmmg.models import HGNNIMA, HGT, MODELS, SAGE

Params = dict[str, Any]
OnDevice = Callable[[], AbstractContextManager[Any]]
OF_NODES = [name for name, spec in MODELS.items() if "classification" in spec.tasks]
SAMPLED = [name for name in OF_NODES if MODELS[name]().samples]
SMALL = {"hidden_channels": 8, "heads": 2, "dropout": 0.0, "input_dropout": 0.0}
FIT: Params = {"max_epochs": 3, "lr": 0.02, "random_state": 0}
BATCHES: Params = {"batch_size": 16, "num_neighbors": 3, "max_epochs": 1}


@pytest.fixture
def planted() -> Bunch:
    """60 items, a fifth of the rows missing; made anew, because a graph keeps its tensors."""
    return make_multimodal_graph(60, missing=0.2, n_features=6, random_state=0)


# ---------------------------------------------------------------------------- the device itself


def test_tensors_of_two_devices_do_not_meet() -> None:
    with pretend_device():
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        assert (there * 2).device == there.to(here.dtype).device == CUDA
        assert (there.cpu() + here).device == torch.device("cpu")
        assert (there * here.sum()).device == CUDA
        for mix in (
            lambda: here + there,
            lambda: torch.cat([there, here]),
            lambda: here[there.long()],
            lambda: torch.from_numpy(np.ones(3, np.float32)) + there,
            lambda: torch.nn.Linear(3, 2)(there),
            lambda: here.to_sparse() * there,
            there.numpy,
            there.data_ptr,
        ):
            with pytest.raises(WrongDeviceError):
                mix()


def test_a_backward_pass_written_in_python_is_seen() -> None:
    class Forgetful(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return 2 * x

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return grad * 2 + torch.zeros(len(x)) * x

    with pretend_device():
        x = torch.ones(3, device="cuda", requires_grad=True)
        with pytest.raises(WrongDeviceError):
            Forgetful.apply(x).sum().backward()


# -------------------------------------------------------------------------------- classification


def assert_same_without_the_device(estimator: Any, X: Any, found: np.ndarray, device: Any) -> None:
    """What was fitted is read, and gives the same, where there is no such device."""
    read = pickle.loads(pickle.dumps(estimator)).set_params(device="cpu")
    method = getattr(read, "predict_proba", read.transform)
    close = {"atol": 0.05} if read.precision == "bf16" else device.close
    assert_allclose(method(X), found, **close)


@pytest.mark.parametrize(
    ("name", "batches"),
    [*((name, {}) for name in OF_NODES), *((name, BATCHES) for name in SAMPLED)],
    ids=lambda value: value if isinstance(value, str) else "batches" if value else "whole",
)
@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_every_model_is_trained_and_read_on_a_device(
    name: str, batches: Params, precision: str, planted: Bunch, on_device: OnDevice
) -> None:
    X, y = planted.graph.nodes("item"), planted.target
    params = FIT | {"device": "cuda", "precision": precision} | batches
    with on_device() as device:
        clf = MultiModalGraphClassifier(name, **params).fit(X[:40], y[:40])
        found = clf.predict_proba(X)
        assert device.was_used
        if name in ("hgnn_ima", "mm_gcn", "mhgat"):
            assert_allclose(clf.modality_weights(X).sum(axis=1), 1.0, rtol=1e-5)
    assert_same_without_the_device(clf, X, found, device)


@pytest.mark.parametrize(
    "options",
    [
        {"cross_modal": "influenced"},
        {"preset": "paper"},
        {"attention_scope": "relation"},
    ],
    ids=str,
)
@pytest.mark.parametrize("missing", ["zero", "copy", "learned"])
def test_ways_to_compute_hgnn_ima(
    options: Params, missing: str, planted: Bunch, on_device: OnDevice
) -> None:
    X, y = planted.graph.nodes("item"), planted.target
    params = FIT | {"model": HGNNIMA(**SMALL, **options), "missing": missing}
    on_cpu = MultiModalGraphClassifier(device="cpu", **params).fit(X[:40], y[:40])
    with on_device() as device:
        clf = MultiModalGraphClassifier(device="cuda", **params).fit(X[:40], y[:40])
        found, attention = clf.predict_proba(X), clf.attention(X)
        weights = [w.numpy() for layer in attention for w in layer.weight.values()]
    assert_allclose(found, on_cpu.predict_proba(X), **device.trained)
    assert all(np.isfinite(w).all() for w in weights)


def test_training_does_not_depend_on_the_device(planted: Bunch, on_device: OnDevice) -> None:
    X, y = planted.graph.nodes("item"), planted.target
    for model in (HGT(**SMALL), SAGE(hidden_channels=8, dropout=0.0, input_dropout=0.0)):
        params = FIT | {"model": model, "fusion": "late", "precision": "float64"}
        on_cpu = MultiModalGraphClassifier(device="cpu", **params).fit(X[:40], y[:40])
        with on_device():
            clf = MultiModalGraphClassifier(device="cuda", **params).fit(X[:40], y[:40])
            found = clf.predict_proba(X)
        assert_allclose(found, on_cpu.predict_proba(X), rtol=1e-6)


def test_graphs_and_rows_are_classified_on_a_device(rows: Bunch, on_device: OnDevice) -> None:
    rng, y = np.random.default_rng(0), np.arange(8) % 2
    X = stack_graphs(
        [
            MultiModalGraph(
                {"eeg": rng.normal(size=(4, 3)) + i}, {"near": rng.integers(4, size=(2, 5))}
            )
            for i in y
        ]
    )
    with on_device() as device:
        clf = MultiModalGraphClassifier("mm_gcn_pool", device="cuda", **FIT).fit(X, y)
        found = clf.predict_proba(X)
        of_rows = MultiModalGraphClassifier(
            "hgnn_ima", modalities=rows.modalities, device="cuda", **FIT
        ).fit(rows.data, rows.target)
        found_rows = of_rows.predict_proba(rows.data)
    assert_same_without_the_device(clf, X, found, device)
    assert_same_without_the_device(of_rows, rows.data, found_rows, device)


# ------------------------------------------------------------------------ search and embedding


@pytest.mark.parametrize("model", ["hgnn_ima", "mm_gcn", "dual_mlp", "mamsa", "hetgnn"])
@pytest.mark.parametrize("objective", ["auto", "pairs"])
def test_modalities_are_searched_on_a_device(
    model: str, objective: str, planted: Bunch, on_device: OnDevice
) -> None:
    X, y = planted.graph.nodes("item"), planted.target
    first, second = planted.graph.x["item"]
    queries = X[planted.graph.present("item", first)]
    with on_device() as device:
        retriever = CrossModalRetriever(
            first, second, model=model, objective=objective, device="cuda", **FIT
        ).fit(X[:40], y[:40])
        distances, ids = retriever.kneighbors(queries, n_neighbors=3)
    moved = pickle.loads(pickle.dumps(retriever)).set_params(device="cpu")
    assert_allclose(moved.kneighbors(queries, n_neighbors=3)[0], distances, **device.close)
    assert ids.shape == (len(queries), 3)


@pytest.mark.parametrize("model", ["hgnn_ima", "hero", "shgp"])
def test_nodes_are_embedded_on_a_device(model: str, planted: Bunch, on_device: OnDevice) -> None:
    X = planted.graph.nodes("item")
    with on_device() as device:
        embedder = NodeEmbedder(model, device="cuda", **FIT).fit(X)
        found = embedder.transform(X)
    assert_same_without_the_device(embedder, X, found, device)
