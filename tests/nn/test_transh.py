"""TransH and the knowledge graph of a network against their definitions in plain loops."""

from __future__ import annotations

import numpy as np
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skmmg.nn._edges import EdgeStructure
from skmmg.nn._knowledge_graph import Triples, embed_entities, links
from skmmg.nn._row_adam import RowAdam
from skmmg.nn._transh import TransH

N_NODES = {"film": 4, "actor": 3}
EDGES = {
    ("actor", "plays", "film"): np.array([[0, 0, 1, 2, 2], [0, 1, 1, 3, 3]]),
    ("film", "like", "film"): np.array([[0, 1, 1], [1, 1, 0]]),
    ("film", "none", "actor"): np.zeros((2, 0), dtype=np.int64),
}
LABELS = np.array([1, -1, 0, -1])
N_CLASSES = 2
# the common numbering: films 0 to 3, actors 4 to 6, classes 7 and 8
EXPECTED = {
    (4, 0, 0), (4, 0, 1), (5, 0, 1), (6, 0, 3),
    (0, 1, 1), (1, 1, 1), (1, 1, 0),
    (0, 3, 8), (2, 3, 7),
}  # fmt: skip


def make_edges() -> EdgeStructure:
    tensors = {name: torch.tensor(index) for name, index in EDGES.items()}
    return EdgeStructure(tensors, N_NODES, list(EDGES))


def make_triples() -> Triples:
    return Triples.of(make_edges(), torch.tensor(LABELS), "film", N_CLASSES)


def make_model() -> tuple[TransH, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    model = TransH(9, 4, 5, margin=0.7, constraint_weight=0.3).double()
    with torch.no_grad():  # lengths that the constraints see
        for parameter in model.parameters():
            parameter *= torch.rand(len(parameter), 1).double() + 0.6
    arrays = {name: p.detach().numpy() for name, p in model.named_parameters()}
    return model, arrays


def distance(p: dict[str, np.ndarray], head: int, relation: int, tail: int) -> float:
    w = p["normal_emb.weight"][relation]
    w = w / np.linalg.norm(w)
    h, t = p["node_emb.weight"][head], p["node_emb.weight"][tail]
    apart = (h - (w @ h) * w) + p["rel_emb.weight"][relation] - (t - (w @ t) * w)
    return float(np.linalg.norm(apart))


def test_the_score_is_minus_the_distance_on_the_hyperplane() -> None:
    model, p = make_model()
    head, relation, tail = torch.tensor([0, 4, 2]), torch.tensor([1, 0, 3]), torch.tensor([1, 3, 7])

    score = model(head, relation, tail).detach()

    triples = zip(head.tolist(), relation.tolist(), tail.tolist(), strict=True)
    assert_allclose(score, [-distance(p, *triple) for triple in triples], atol=1e-12)


def test_the_loss_is_its_formula() -> None:
    model, p = make_model()
    head, relation, tail = [0, 4, 2], [1, 0, 3], [1, 3, 7]
    other_head, other_tail = [3, 4, 1], [1, 2, 7]

    loss = model.loss(
        *(torch.tensor(ids) for ids in (head, relation, tail)),
        (torch.tensor(other_head), torch.tensor(other_tail)),
    )

    hinges = [
        max(0.0, 0.7 + distance(p, h, r, t) - distance(p, oh, r, ot))
        for h, r, t, oh, ot in zip(head, relation, tail, other_head, other_tail, strict=True)
    ]
    entities = p["node_emb.weight"][head + tail + other_head + other_tail]
    outside = np.maximum((entities**2).sum(1) - 1, 0).mean()
    w, d = p["normal_emb.weight"], p["rel_emb.weight"]
    cosine = (w * d).sum(1) / np.linalg.norm(w, axis=1) / np.linalg.norm(d, axis=1)
    off_plane = np.maximum(cosine**2 - 1e-6, 0).mean()
    assert_allclose(loss.item(), np.mean(hinges) + 0.3 * (outside + off_plane), atol=1e-12)


def test_off_the_hyperplanes_normals_it_is_transe_of_pytorch_geometric() -> None:
    from torch_geometric.nn import TransE

    torch.manual_seed(0)
    transe, transh = TransE(6, 3, 5, p_norm=2.0).double(), TransH(6, 3, 5).double()
    with torch.no_grad():
        transe.node_emb.weight[:, -1] = 0.0  # nothing along the last axis
        transh.node_emb.weight.copy_(torch.nn.functional.normalize(transe.node_emb.weight))
        transh.rel_emb.weight.copy_(transe.rel_emb.weight)
        transh.normal_emb.weight.zero_()[:, -1] = 1.0
    triples = torch.randint(3, (3, 8))

    assert_allclose(transh(*triples).detach(), transe(*triples).detach(), atol=1e-12)


def test_triples_are_the_edges_and_the_classes_of_the_labelled_nodes() -> None:
    triples = make_triples()

    rows = torch.stack([triples.head, triples.relation, triples.tail], 1).tolist()

    assert {tuple(row) for row in rows} == EXPECTED
    assert len(rows) == 10  # one edge is there twice


def test_a_corrupted_triple_differs_at_one_end_by_an_entity_of_the_right_kind() -> None:
    triples = make_triples()
    torch.manual_seed(0)
    which = torch.arange(len(triples)).repeat(200)
    kinds = {0: (range(4, 7), range(4)), 1: (range(4), range(4)), 3: (range(4), range(7, 9))}

    head, tail = triples.corrupt(which, torch.full((4,), 0.5))

    at_head, at_tail = head != triples.head[which], tail != triples.tail[which]
    assert not (at_head & at_tail).any()
    assert at_head.any()
    assert at_tail.any()
    for relation, (heads, tails) in kinds.items():
        mine = triples.relation[which] == relation
        assert set(head[mine].tolist()) == set(heads)
        assert set(tail[mine].tolist()) == set(tails)


def test_the_rate_of_corrupted_heads_is_bernoullis() -> None:
    rate = make_triples().head_rate()

    for r in (0, 1, 3):
        triples = [t for t in EXPECTED if t[1] == r]
        tails_per_head = len(triples) / len({t[0] for t in triples})
        heads_per_tail = len(triples) / len({t[2] for t in triples})
        assert_allclose(rate[r], tails_per_head / (tails_per_head + heads_per_tail))


def test_learning_moves_triples_ahead_of_corrupted_ones() -> None:
    triples = make_triples()

    def gap(max_epochs: int) -> float:
        torch.manual_seed(0)
        vectors = embed_entities(
            triples, 9, 8, margin=1.0, max_epochs=max_epochs, lr=0.05, dtype=torch.float64
        )
        classes, labelled = vectors[7:], vectors[[0, 2]]
        apart = torch.cdist(labelled, classes)
        return float(apart[0, 0] + apart[1, 1] - apart[0, 1] - apart[1, 0])

    assert gap(200) > gap(0) + 0.5


def test_the_same_seed_learns_the_same_vectors() -> None:
    options = {"margin": 1.0, "max_epochs": 3, "lr": 0.05, "dtype": torch.float32}
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(embed_entities(make_triples(), 9, 8, **options))  # type: ignore[arg-type]

    assert_array_equal(*drawn)


def test_without_triples_the_vectors_are_random() -> None:
    empty = EdgeStructure({}, N_NODES, [], torch.device("cpu"))
    triples = Triples.of(empty, torch.full((4,), -1), "film", N_CLASSES)

    vectors = embed_entities(triples, 9, 8, margin=1.0, max_epochs=2, lr=0.1, dtype=torch.float64)

    assert_allclose(vectors.norm(dim=1), 1)


def test_links_are_distinct_pairs_without_the_node_itself() -> None:
    matrix = links(make_edges(), torch.float64)

    expected = np.zeros((7, 7))
    for head, relation, tail in EXPECTED:
        if relation < 3 and head != tail:
            expected[tail, head] = 1.0
    assert_array_equal(matrix.matrix.to_dense(), expected)


def test_the_loss_from_the_rows_that_it_needs_has_the_same_gradient() -> None:
    model, _ = make_model()
    relation, ends = (
        torch.tensor([1, 0, 3]),
        torch.tensor([[0, 4, 2], [1, 3, 7], [3, 4, 1], [1, 2, 7]]),
    )
    whole = model.loss(ends[0], relation, ends[1], (ends[2], ends[3]))
    whole.backward()
    rows, places = torch.unique(ends, return_inverse=True)
    entities = model.node_emb.weight.detach()[rows].requires_grad_()

    part = model.loss(places[0], relation, places[1], (places[2], places[3]), entities)

    part.backward()
    assert_allclose(part.item(), whole.item(), atol=1e-14)
    expected = model.node_emb.weight.grad
    assert_allclose(entities.grad, expected[rows], atol=1e-14)
    assert len(rows) == (expected != 0).any(1).sum()


def test_adam_on_rows_is_sparse_adam_of_torch() -> None:
    torch.manual_seed(0)
    start, target = torch.randn(2, 6, 3, dtype=torch.float64)
    sparse = torch.nn.Embedding.from_pretrained(start.clone(), freeze=False, sparse=True)
    theirs, table = torch.optim.SparseAdam(sparse.parameters(), lr=0.1), start.clone()
    ours = RowAdam(table, lr=0.1)

    for ids in ([0, 3], [3, 5], [0, 1, 3], [0, 3]):
        rows = torch.tensor(ids)
        theirs.zero_grad()
        (sparse(rows) - target[rows]).square().sum().backward()
        theirs.step()
        taken = ours.take(rows)
        (taken - target[rows]).square().sum().backward()
        ours.step(rows, taken)

    assert_allclose(table, sparse.weight.detach(), atol=1e-14)
    assert_array_equal(table[[2, 4]], start[[2, 4]])
