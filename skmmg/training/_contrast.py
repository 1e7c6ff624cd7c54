"""Train a model so that the modalities of an item are near each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from skmmg.models import ModelOutput
from skmmg.nn import GraphTensors
from skmmg.nn._precision import normalize
from skmmg.training._losses import weighted_cross_entropy

FUSED = "*"
# similarities that are held at a time: 64 MiB of float32
_BLOCK = 1 << 24
# what a learned temperature does not fall below
_COLDEST = 0.01

# the graph as the items of a fold see it, who are known by one of their modalities ("*": by all)
QueryGraphs = Callable[[GraphTensors, int, str], GraphTensors]


@dataclass(kw_only=True)
class ContrastOutput(ModelOutput):
    """Embeddings of the same items, known by one modality after the other.

    Parameters
    ----------
    rows : Tensor of shape (n_items,)
        Where the items stand in the batch.
    views : list of (Tensor of shape (n_items, d), Tensor of shape (n_items,), dtype bool)
        Embeddings, and which of the items have the modality.
    pairs : list of (int, int)
        Which of the views are compared.
    scores : list of Tensor of shape (n_items, n_classes)
        Scores of the classes, one for each view.
    temperature : Tensor
        What cosines are divided by.
    """

    rows: Tensor
    views: list[tuple[Tensor, Tensor]]
    pairs: list[tuple[int, int]]
    scores: list[Tensor] = field(default_factory=list)
    temperature: Tensor


class Contrast(nn.Module):
    """Encode items as queries that nobody has seen yet, in each of their modalities alone.

    The model's outputs are the vectors: as many as the space is wide.

    Items are dealt into folds. In training a call encodes one fold, and the items of the other
    folds are the ones that are known: so the answer to a query is never in what the query is
    encoded from, in training as little as later. Validation items are a fold that never speaks.

    Parameters
    ----------
    module : torch.nn.Module
        The model.
    node_type : str
        Type of the items.
    graphs : callable
        Maps (graph, fold, modality) to the graph in which the fold is encoded.
    folds : Tensor of shape (n_nodes,)
        Fold of every item; -1 for items that are not trained on, `n_folds` for validation.
    n_folds : int
        Number of folds to train on.
    modalities : sequence of str
        What the items are known by; "*" stands for everything that they have.
    temperature : float or "learned"
        What cosines are divided by; a learned one does not fall below 0.01.
    widths : (int, int)
        Width of the space, and number of classes to tell apart in it, 0 for none.
    """

    def __init__(
        self,
        module: nn.Module,
        node_type: str,
        graphs: QueryGraphs,
        folds: Tensor,
        n_folds: int,
        modalities: Sequence[str],
        temperature: float | str,
        widths: tuple[int, int],
    ) -> None:
        super().__init__()
        self.module, self.node_type, self.graphs = module, node_type, graphs
        self.folds, self.n_folds, self.step = folds, n_folds, 0
        # one modality is compared with itself: dropout shows it in two ways
        self.modalities = [*modalities] if len(modalities) > 1 else [*modalities] * 2
        self.classifier = nn.Linear(*widths) if widths[1] else None
        start = 0.07 if temperature == "learned" else float(temperature)
        logarithm = torch.tensor(start).log()
        if temperature == "learned":
            self.log_temperature = nn.Parameter(logarithm)
        else:
            self.register_buffer("log_temperature", logarithm)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ContrastOutput:
        """Embeddings of those of the nodes `ids` whose turn it is."""
        fold = self.step % self.n_folds if self.training else self.n_folds
        self.step += self.training
        rows = torch.nonzero(self.folds[ids] == fold).squeeze(1)
        outputs, views = [], []
        for modality in self.modalities:
            outputs.append(self.module(self.graphs(graph, fold, modality), ids[rows]))
            views.append((normalize(outputs[-1].logits), self._has(graph, modality, ids[rows])))
        penalties = {
            name: torch.stack([output.penalties[name] for output in outputs]).mean()
            for name in outputs[0].penalties
        }
        return ContrastOutput(
            logits=outputs[0].logits,
            embedding=views[0][0],
            penalties=penalties,
            rows=rows,
            views=views,
            pairs=list(combinations(range(len(views)), 2)),
            scores=[] if self.classifier is None else [self.classifier(o.logits) for o in outputs],
            temperature=self._temperature(),
        )

    def _temperature(self) -> Tensor:
        temperature = self.log_temperature.exp()
        learned = isinstance(self.log_temperature, nn.Parameter)
        return temperature.clamp_min(_COLDEST) if learned else temperature

    def _has(self, graph: GraphTensors, modality: str, ids: Tensor) -> Tensor:
        """Which of the nodes have a modality, or anything for "*"."""
        known = graph.x[self.node_type]
        shown = known if modality == FUSED else [modality]
        lacking = [graph.missing.get(self.node_type, {}).get(m) for m in shown]
        if any(mask is None for mask in lacking):
            return torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        return ~torch.stack([mask for mask in lacking if mask is not None]).all(0)[ids]


class ContrastiveLoss(nn.Module):
    r"""Contrastive loss between every two modalities, in both directions, plus penalties.

    .. math::

        L = -\frac{1}{|Q|} \sum_{i \in Q} \frac{1}{|P_i|} \sum_{p \in P_i}
            \log \frac{\exp(\cos(q_i, x_p) / \tau)}{\sum_j \exp(\cos(q_i, x_j) / \tau)}

    :math:`P_i` are the items that answer query i: the item itself, or all of its class with
    `by_label`. Q are the queries that have an answer; the sum over j takes every item that has the
    modality, so that items that lack the other one count as wrong answers.

    Parameters
    ----------
    by_label : bool
        Whether items of one class answer each other.
    classification_weight : float
        Weight of the cross-entropy of the classes, the mean over the modalities; 0 leaves it out.

    References
    ----------
    Yuan and Xue, Preprints 2025, doi:10.20944/preprints202501.0405.v1, equation 6. As printed it
    has one query whose answers are all items, which equal similarities minimise, and no
    temperature. Here query i has the answer i, and there is a temperature.

    Khosla et al., Supervised contrastive learning, NeurIPS 2020, equation 2, for `by_label`.
    """

    def __init__(self, by_label: bool, classification_weight: float) -> None:
        super().__init__()
        self.by_label, self.classification_weight = by_label, classification_weight

    def forward(
        self, output: ContrastOutput, y: Tensor, weight: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts; "acc" is the share of queries whose nearest is right."""
        codes = y[output.rows]
        names = codes if self.by_label else output.rows
        directions = [(a, b) for pair in output.pairs for a, b in (pair, pair[::-1])]
        results = [
            contrast(*_of(output.views[a], names), *_of(output.views[b], names), output.temperature)
            for a, b in directions
        ]
        losses, hits = (torch.stack(values) for values in zip(*results, strict=True))
        parts = {"contrast": losses.mean(), "acc": hits.mean()}
        loss = parts["contrast"]
        if self.classification_weight:
            parts["ce"] = self._cross_entropy(output, codes, weight[output.rows])
            loss = loss + self.classification_weight * parts["ce"]
        return loss + sum(output.penalties.values()), parts | output.penalties

    @staticmethod
    def _cross_entropy(output: ContrastOutput, codes: Tensor, weight: Tensor) -> Tensor:
        losses = [
            weighted_cross_entropy(scores[has], codes[has], weight[has])
            for scores, (_, has) in zip(output.scores, output.views, strict=True)
            if has.any()
        ]
        return torch.stack(losses).mean() if losses else codes.new_zeros((), dtype=weight.dtype)


def _of(view: tuple[Tensor, Tensor], names: Tensor) -> tuple[Tensor, Tensor]:
    return view[0][view[1]], names[view[1]]


def contrast(
    query: Tensor,
    query_names: Tensor,
    gallery: Tensor,
    gallery_names: Tensor,
    temperature: Tensor,
    block: int = _BLOCK,
) -> tuple[Tensor, Tensor]:
    """Loss of one direction, and the share of queries whose nearest item bears their name.

    Block by block: never more than `block` similarities are held, for the gradient neither.
    """
    answered = torch.isin(query_names, gallery_names)
    query, query_names = query[answered], query_names[answered]
    if not len(query):
        zero = gallery.sum() * 0.0
        return zero, zero.detach()
    step = max(1, block // len(gallery))
    loss, hits = query.new_zeros(()), query.new_zeros(())
    for start in range(0, len(query), step):
        rows = slice(start, start + step)
        inputs = (query[rows], query_names[rows], gallery, gallery_names, temperature)
        if len(query) <= step:
            part = _contrast_block(*inputs)
        else:
            part = checkpoint(_contrast_block, *inputs, use_reentrant=False)
        loss, hits = loss + part[0], hits + part[1]
    return loss / len(query), hits.detach() / len(query)


def _contrast_block(
    query: Tensor,
    query_names: Tensor,
    gallery: Tensor,
    gallery_names: Tensor,
    temperature: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sums over some queries."""
    similarity = query @ gallery.t() / temperature  # (n_queries, n_gallery)
    answers = query_names[:, None] == gallery_names
    n_answers = answers.sum(1)
    mean = torch.where(answers, similarity, 0.0).sum(1) / n_answers
    right = answers.gather(1, similarity.argmax(1, keepdim=True))
    return (similarity.logsumexp(1) - mean).sum(), right.to(query.dtype).sum()
