"""A spec of the user's own: what is wrong with it is told where it is built or first run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from skmmg import CrossModalRetriever, MultiModalGraphClassifier, NodeEmbedder
from skmmg.datasets import make_multimodal_graph
from skmmg.graph import Schema
from skmmg.models import MLP, ModelOutput, ModelSpec
from skmmg.nn import GraphTensors, ModalityEncoder

PLANTED = make_multimodal_graph(n_samples=40, random_state=0)
X, Y = PLANTED.graph.nodes("item"), PLANTED.target


class OwnModule(nn.Module):
    """States of the target nodes, and an output that `change` makes wrong."""

    def __init__(self, schema: Schema, n_outputs: int, missing: str, change: Any) -> None:
        super().__init__()
        self.target, self.out_channels, self.change = schema.target, 8, change
        self.encoder = ModalityEncoder(schema.node_types, schema.modalities, 8, missing=missing)
        self.head = nn.Linear(8, n_outputs)

    def forward(self, graph: GraphTensors, ids: Tensor) -> Any:
        h = self.encoder(graph).mean(0).split(list(graph.num_nodes.values()))
        z = dict(zip(graph.num_nodes, h, strict=True))[self.target]
        return self.change(ModelOutput(self.head(z[ids]), z[ids]), self.head(z), z)


class Own(ModelSpec):
    name = "own"

    def __init__(self, change: Any = lambda output, logits, z: output) -> None:
        self.change = change

    def num_hops(self) -> int:
        return 0

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        return OwnModule(schema, n_outputs, missing, self.change)


class WithoutWidth(Own):
    def _build(self, *args: Any) -> nn.Module:
        module = super()._build(*args)
        del module.out_channels
        return module


class WithoutModule(Own):
    def _build(self, *args: Any) -> Any:
        return super()._build


class HopsAsNumber(Own):
    num_hops = 0


class WithoutHops(Own):
    num_hops = ModelSpec.num_hops


@pytest.mark.parametrize("batch_size", [None, 10])
def test_a_spec_of_ones_own_is_trained(batch_size: int | None) -> None:
    clf = MultiModalGraphClassifier(Own(), max_epochs=2, batch_size=batch_size, random_state=0)

    assert clf.fit(X, Y).transform(X).shape == (40, 8)


@pytest.mark.parametrize(
    ("spec", "batch_size", "message"),
    [
        (WithoutWidth(), None, "module of WithoutWidth has to have .* out_channels, .* got None"),
        (WithoutModule(), None, r"_build has to return a torch.nn.Module, got method"),
        (HopsAsNumber(), None, "num_hops of HopsAsNumber has to be a method, got 0. Write: def"),
        (HopsAsNumber(), 10, "num_hops of HopsAsNumber has to be a method, got 0. Write: def"),
        (WithoutHops(), 10, "WithoutHops has no num_layers, so it has to say by a method num_hops"),
        (
            Own(lambda output, logits, z: output.logits),
            None,
            "has to return a skmmg.models.ModelOu",
        ),
    ],
)
def test_a_wrong_spec_is_named(spec: ModelSpec, batch_size: int | None, message: str) -> None:
    clf = MultiModalGraphClassifier(spec, max_epochs=2, batch_size=batch_size)

    with pytest.raises(TypeError, match=message):
        clf.fit(X[:20], Y[:20])

    assert not hasattr(clf, "weights_")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda output, logits, z: replace(output, logits=logits),
            r"return logits with a row for each of the \d+ asked ids, got shape \(40, ",
        ),
        (
            lambda output, logits, z: replace(output, embedding=z),
            r"return embedding with a row for each of the \d+ asked ids, got shape \(40, 8\)",
        ),
        (
            lambda output, logits, z: replace(output, logits=output.logits.argmax(1)),
            r"return logits with a row for each of the \d+ asked ids, got shape \(\d+,\)",
        ),
        (
            lambda output, logits, z: replace(output, embedding=output.embedding[:, :5]),
            r"an embedding with out_channels=8 columns, got shape",
        ),
    ],
)
@pytest.mark.parametrize(
    "estimator",
    [
        MultiModalGraphClassifier(max_epochs=2),
        NodeEmbedder(max_epochs=2),
        CrossModalRetriever(max_epochs=2),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_an_output_of_another_shape_is_named(estimator: Any, change: Any, message: str) -> None:
    estimator.set_params(model=Own(change))

    with pytest.raises(ValueError, match=f"OwnModule.forward.* {message}"):
        estimator.fit(X[:20], Y[:20])


def test_a_width_of_numpy_is_a_width() -> None:
    clf = MultiModalGraphClassifier(MLP(hidden_channels=np.int64(8)), max_epochs=1)

    assert clf.fit(X, Y).transform(X).shape == (len(Y), 8)
