"""The training loop: seeds, schedules, weights, interrupts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from pretend_device import pretend_device
from sklearn.metrics import accuracy_score, log_loss
from torch import nn

from skmmg import MultiModalGraph
from skmmg.models import MLP
from skmmg.training import (
    OPTIMIZERS,
    ClassificationLoss,
    GraphNet,
    NodeDataset,
    Ranks,
    _train,
    choose_device,
    column_statistics,
    graph_tensors,
    private_seed,
    train,
)

CPU = torch.device("cpu")
LABELS = np.arange(20) % 2


def make_data(weight: np.ndarray | None = None) -> NodeDataset:
    x = np.random.default_rng(0).normal(size=(20, 4))
    graph = MultiModalGraph({"x": x})
    tensors = graph_tensors(graph, column_statistics(graph, None), device=CPU, dtype=torch.float64)
    weights = np.ones(20) if weight is None else weight
    weights = torch.tensor(weights / weights.mean())
    return NodeDataset(tensors, torch.arange(20), torch.tensor(LABELS), weights)


def make_module() -> nn.Module:
    graph = MultiModalGraph({"x": np.zeros((20, 4))})
    spec = MLP(hidden_channels=4, dropout=0.0, input_dropout=0.0)
    with private_seed(0, CPU):
        return spec.build(graph.nodes().schema, 2).double()


def run(
    module: nn.Module, weight: np.ndarray | None = None, validate: bool = False, **settings: Any
) -> GraphNet:
    defaults = {
        "criterion": ClassificationLoss,
        "optimizer": "adam",
        "lr": 0.01,
        "weight_decay": 0.0,
        "lr_scheduler": None,
        "max_epochs": 5,
        "early_stopping": None,
        "n_iter_no_change": 2,
        "tol": 0.0,
        "device": CPU,
    }
    data = make_data(weight)
    return train(module, data, data if validate else None, **{**defaults, **settings})


# ------------------------------------------------------------------------------ seeds


def test_a_private_seed_leaves_torchs_generator_as_it_was() -> None:
    before = torch.get_rng_state()

    with private_seed(0, CPU):
        first = torch.rand(3)
    with private_seed(0, CPU):
        second = torch.rand(3)

    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_private_seed_leaves_the_generator_as_it_was_after_an_error() -> None:
    before = torch.get_rng_state()

    def fail() -> None:
        with private_seed(0, CPU):
            torch.rand(3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert torch.equal(torch.get_rng_state(), before)


def test_auto_takes_a_device_that_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto").type == expected
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99"])
def test_a_device_that_torch_cannot_compute_on_is_an_error(device: str) -> None:
    with pytest.raises(ValueError, match=f"device.*'{device}'.* Set device=\"cpu\""):
        choose_device(device)


def test_seeds_do_not_touch_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    all_devices: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", all_devices.append)
    monkeypatch.setattr(Ranks, "current", classmethod(lambda cls: cls(1, 2)))
    monkeypatch.setattr(Ranks, "wrap", lambda self, module: module)
    with private_seed(0, CPU):
        drawn = torch.rand(3)
        _train._share(make_module(), 5, CPU)
        shared = torch.rand(3)
    assert all_devices == []
    for seed, found in ((0, drawn), (6, shared)):
        torch.manual_seed(seed)
        assert torch.equal(found, torch.rand(3))


def test_a_gpu_is_seeded_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    current = [CPU]
    seeds: list[tuple[torch.device, int]] = []

    @contextmanager
    def make_current(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    with pretend_device():
        monkeypatch.setattr(torch.cuda, "device", make_current)
        monkeypatch.setattr(torch.cuda, "manual_seed", lambda n: seeds.append((current[-1], n)))
        with private_seed(3, torch.device("cuda", 1)):
            pass
        monkeypatch.undo()
    assert seeds == [(torch.device("cuda", 1), 3)]


def test_a_gpu_that_cannot_be_used_is_not_advised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(
        ValueError, match=r"device='auto' cannot be used here: .* Set device=\"cpu\""
    ):
        choose_device("auto")


# ------------------------------------------------------------------------------ epochs


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(optimizer: str) -> None:
    history = run(make_module(), optimizer=optimizer, max_epochs=20).plain_history()

    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_the_history_has_a_row_of_plain_numbers_per_epoch() -> None:
    history = run(make_module(), validate=True).plain_history()

    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    parts = {f"{part}_{name}" for part in ("train", "valid") for name in ("loss", "ce", "acc")}
    assert set(history[0]) == parts | {"epoch", "dur"}
    assert {type(value) for row in history for value in row.values()} == {int, float}


def test_validation_loss_and_accuracy_are_those_of_scikit_learn() -> None:
    module = make_module()
    net = run(module, validate=True, max_epochs=1)

    data = make_data()
    with torch.no_grad():
        proba = module.eval()(data.graph, data.ids).logits.softmax(1).numpy()

    row = net.plain_history()[0]
    assert_allclose(row["valid_loss"], log_loss(LABELS, proba))
    assert_allclose(row["valid_acc"], accuracy_score(LABELS, proba.argmax(1)))


def test_a_weight_of_two_is_a_node_that_is_there_twice() -> None:
    doubled = np.ones(20)
    doubled[:5] = 2.0
    twice = make_data()
    ids = torch.tensor([*range(20), *range(5)])
    repeated = NodeDataset(twice.graph, ids, twice.y[ids], torch.ones(25).double())
    module, other = make_module(), make_module()

    run(module, doubled)
    optimizer = torch.optim.Adam(other.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        output = other(repeated.graph, repeated.ids)
        ClassificationLoss()(output, repeated.y, repeated.weight)[0].backward()
        optimizer.step()

    for ours, theirs in zip(module.parameters(), other.parameters(), strict=True):
        assert_allclose(ours.detach(), theirs.detach(), atol=1e-12)


def test_the_cosine_schedule_goes_down_to_nothing() -> None:
    rates = [row["event_lr"] for row in run_schedule("cosine")]

    assert rates[0] == 0.01
    assert_allclose(rates, 0.01 * (1 + np.cos(np.pi * np.arange(20) / 20)) / 2)


def test_the_one_cycle_schedule_goes_up_to_lr_and_down() -> None:
    rates = [row["event_lr"] for row in run_schedule("one_cycle")]

    top = int(np.argmax(rates))
    assert_allclose(max(rates), 0.01, rtol=0.05)
    assert top <= 2
    assert (np.diff(rates[top:]) < 0).all()
    assert rates[-1] < 1e-3


@pytest.mark.parametrize("max_epochs", [1, 2, 18, 19, 20])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_one_cycle_schedule_takes_any_number_of_epochs(optimizer: str, max_epochs: int) -> None:
    net = run(make_module(), lr_scheduler="one_cycle", optimizer=optimizer, max_epochs=max_epochs)

    assert len(net.history) == max_epochs


def run_schedule(name: str) -> list[dict[str, Any]]:
    return list(run(make_module(), lr_scheduler=name, max_epochs=20).history)


def test_weight_decay_shrinks_the_weights() -> None:
    plain, decayed = make_module(), make_module()

    run(plain)
    run(decayed, optimizer="sgd", weight_decay=10.0)

    assert norm(decayed) < 0.8 * norm(make_module())
    assert norm(plain) > 0.8 * norm(make_module())


def norm(module: nn.Module) -> float:
    return sum(float(p.detach().square().sum()) for p in module.parameters())


@pytest.mark.parametrize("rule", ["loss_and_accuracy", "loss", "accuracy"])
def test_the_best_epochs_weights_are_restored(rule: str) -> None:
    module = make_module()

    net = run(
        module, validate=True, lr=3.0, max_epochs=30, early_stopping=rule, n_iter_no_change=30
    )

    best = dict(net.callbacks_)["early_stopping"].best_epoch_
    data = make_data()
    with torch.no_grad():
        loss, parts = ClassificationLoss()(module.eval()(data.graph, data.ids), data.y, data.weight)
    assert_allclose(loss, net.plain_history()[best - 1]["valid_loss"])
    assert set(parts) == {"ce"}


def test_an_interrupt_by_the_user_goes_through() -> None:
    class Interrupted(ClassificationLoss):
        def forward(self, *args: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(make_module(), criterion=Interrupted)


def test_verbose_prints_a_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    run(make_module(), verbose=1)
    loud = capsys.readouterr().out
    run(make_module(), verbose=0)

    assert "train_loss" in loud
    assert loud.count("\n") >= 7
    assert capsys.readouterr().out == ""


def test_a_dataset_gives_ids_classes_and_weights() -> None:
    data = make_data()

    assert len(data) == 20
    assert_array_equal(data[3:5][1], LABELS[3:5])
