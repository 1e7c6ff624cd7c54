"""A graph as triples of a knowledge graph, and vectors of its entities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skmmg.nn._edges import EdgeStructure
from skmmg.nn._row_adam import RowAdam
from skmmg.nn._sparse import SparseMatrix
from skmmg.nn._transh import TransH

# triples of a step: the step's tensors then stay in a core's cache
_TRIPLES = 2048


@dataclass(frozen=True)
class Triples:
    """Triples (head, relation, tail) of entities, and which entities may stand where.

    Parameters
    ----------
    head, relation, tail : Tensor of shape (n_triples,)
        Ids of entities and relations.
    heads, tails : Tensor of shape (n_relations, 2)
        First id, and number, of the entities that a relation's heads and tails are among.
    """

    head: Tensor
    relation: Tensor
    tail: Tensor
    heads: Tensor
    tails: Tensor

    @classmethod
    def of(cls, edges: EdgeStructure, labels: Tensor, target: str, n_classes: int) -> Triples:
        """The edges as triples, and (node, has-class, class) for the nodes with a label.

        Entities are the nodes in the common numbering, then the classes. `labels` are those of
        the nodes of type `target`, -1 where a node has none.
        """
        labelled = (labels >= 0).nonzero().squeeze(1)
        nodes = edges.node_slices
        has_class = torch.full_like(labelled, len(edges.edge_types))
        ranges = [(nodes[src], nodes[dst]) for src, _, dst in edges.edge_types]
        ranges.append((nodes[target], slice(edges.num_nodes, edges.num_nodes + n_classes)))
        heads, tails = (
            edges.src.new_tensor([[part.start, part.stop - part.start] for part in parts])
            for parts in zip(*ranges, strict=True)
        )
        return cls(
            torch.cat([edges.src, labelled + nodes[target].start]),
            torch.cat([edges.relation, has_class]),
            torch.cat([edges.dst, labels[labelled] + edges.num_nodes]),
            heads,
            tails,
        )

    def __len__(self) -> int:
        return len(self.head)

    def corrupt(self, which: Tensor, head_rate: Tensor) -> tuple[Tensor, Tensor]:
        """Heads and tails of some triples, one of the two replaced by another of its kind.

        Parameters
        ----------
        which : Tensor of shape (n,)
            The triples.
        head_rate : Tensor of shape (n_relations,)
            Probability of replacing the head.
        """
        head, relation, tail = self.head[which], self.relation[which], self.tail[which]
        draw = torch.rand(2, len(which), device=head.device)
        at_head = draw[0] < head_rate[relation]
        kind = torch.where(at_head.unsqueeze(1), self.heads[relation], self.tails[relation])
        other = kind[:, 0] + (draw[1] * kind[:, 1]).long().minimum(kind[:, 1] - 1)
        return torch.where(at_head, other, head), torch.where(at_head, tail, other)

    def head_rate(self) -> Tensor:
        """Bernoulli rate of every relation: tails per head / (tails per head + heads per tail)."""
        n_heads = self._distinct(self.head)
        n_tails = self._distinct(self.tail)
        return n_tails / (n_heads + n_tails).clamp_min(1)

    def _distinct(self, entity: Tensor) -> Tensor:
        """Number of different entities that stand there, by relation."""
        n_relations = len(self.heads)
        different = torch.unique(entity * n_relations + self.relation)
        return torch.bincount(different % n_relations, minlength=n_relations)


def embed_entities(
    triples: Triples,
    n_entities: int,
    channels: int,
    *,
    margin: float,
    max_epochs: int,
    lr: float,
    dtype: torch.dtype,
) -> Tensor:
    """Vectors (n_entities, channels) of the entities by TransH; no gradient.

    Parameters
    ----------
    triples : Triples
        What to learn from. Entities without a triple keep a random vector.
    n_entities, channels : int
        Number and width of the vectors.
    margin, max_epochs, lr : float, int, float
        Margin of the loss, passes over the triples, learning rate of Adam.
    dtype : torch.dtype
        Of the vectors.
    """
    device, n_relations = triples.head.device, len(triples.heads)
    model = TransH(n_entities, n_relations, channels, margin=margin)
    model = model.to(device=device, dtype=dtype)
    relations = [*model.rel_emb.parameters(), *model.normal_emb.parameters()]
    vectors = model.node_emb.weight.detach()
    optimizers = RowAdam(vectors, lr), torch.optim.Adam(relations, lr=lr)
    head_rate = triples.head_rate()
    for _ in range(max_epochs if len(triples) else 0):
        for which in torch.randperm(len(triples), device=device).split(_TRIPLES):
            _step(model, triples, which, head_rate, optimizers)
    return vectors


def _step(
    model: TransH,
    triples: Triples,
    which: Tensor,
    head_rate: Tensor,
    optimizers: tuple[RowAdam, torch.optim.Optimizer],
) -> None:
    head, relation, tail = triples.head[which], triples.relation[which], triples.tail[which]
    ends = torch.stack([head, tail, *triples.corrupt(which, head_rate)])
    rows, places = torch.unique(ends, return_inverse=True)
    of_entities, of_relations = optimizers
    entities = of_entities.take(rows)
    model.zero_grad()
    with torch.enable_grad():
        model.loss(places[0], relation, places[1], (places[2], places[3]), entities).backward()
    of_entities.step(rows, entities)
    of_relations.step()


def links(edges: EdgeStructure, dtype: torch.dtype) -> SparseMatrix:
    """Which nodes are linked to which, (n_nodes, n_nodes): a 1 per pair, none to itself."""
    n_nodes = edges.num_nodes
    apart = edges.src != edges.dst
    pair = torch.unique(edges.dst[apart] * n_nodes + edges.src[apart])
    dst, src = pair // n_nodes, pair % n_nodes
    count = torch.bincount(dst, minlength=n_nodes)
    crow = torch.cat([count.new_zeros(1), count.cumsum(0)])
    values = torch.ones(len(src), dtype=dtype, device=src.device)
    shape = (n_nodes, n_nodes)
    return SparseMatrix(torch.sparse_csr_tensor(crow, src, values, shape, check_invariants=False))
