"""Planted networks: the label is where one put it, and the best possible accuracy is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, softmax
from sklearn.utils import Bunch, check_random_state

from skmmg.datasets._design import TARGET, Design, check_design
from skmmg.datasets._feature_model import (
    Array,
    FeatureModel,
    FeatureSample,
    log,
    log_likelihood,
    sample_features,
)
from skmmg.datasets._links import Neighborhood, draw_links, to_edge_index
from skmmg.graph import MultiModalGraph


def make_multimodal_graph(
    n_samples: int = 500,
    *,
    n_classes: int = 3,
    modalities: int | Sequence[str] = 2,
    n_features: int | Mapping[str, int] = 16,
    attributes: int | Sequence[str] = 1,
    n_attributes: int | str = "auto",
    n_neighbors: int = 3,
    informative: str | Mapping[int, str] = "all",
    signal: float = 2.0,
    hops: int = 0,
    homophily: float = 0.8,
    missing: float | Mapping[str, float] = 0.0,
    missing_attributes: float | Mapping[str, float] = 0.0,
    missing_types: Mapping[str, str | Sequence[str]] | None = None,
    misaligned: float | Mapping[str, float] = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Make a multi-modal network in which the label is where one put it.

    The nodes to classify are called ``"item"``. Each item is linked to nodes of one or several
    attribute types (as a film is to its director and its actors), and every modality means the same
    thing in all node types. Each parameter turns one knob: which modality is informative, how far
    from a node its label is to be seen, which rows are missing, which are another node's. From what
    the generator knows it computes the accuracy that no classifier can surpass.

    Parameters
    ----------
    n_samples : int, default=500
        Number of items.
    n_classes : int, default=3
        Number of classes, 2 or more. Labels are drawn independently, with equal probabilities.
    modalities : int or list of str, default=2
        Number of modalities, called ``"modality_0"`` and so on, or their names.
    n_features : int or dict of str to int, default=16
        Number of features of each modality, at least `n_classes`.
    attributes : int or list of str, default=1
        Number of attribute types, called ``"attribute_0"`` and so on, or their names. Each is the
        end of a relation ``("item", "has", attribute)``; the container adds the reverse.
    n_attributes : int, "auto" or "own", default="auto"
        Number of nodes of each attribute type, at least `n_classes`, which the items share;
        ``"auto"`` means ``n_samples // 4``. With ``"own"`` each item has attribute nodes of its
        own, as a product has its reviews: no two items are connected, and `bayes_accuracy` is
        exact.
    n_neighbors : int, default=3
        Number of links from an item to each attribute type. Two of them may end in one node.
    informative : {"all", "per_node"}, str or dict of int to str, default="all"
        Which modalities of a node show its class; the others hold noise.

        - "all": every modality;
        - "per_node": one modality, drawn for each node of each type, so that no fixed weighting of
          the modalities is right for all nodes;
        - the name of a modality: that one, in every node;
        - ``{class: modality}``: the modality that the node's class has in this dict.
    signal : float, default=2.0
        Distance between the means of two classes in an informative modality. The noise has standard
        deviation 1.
    hops : {0, 1, 2}, default=0
        How far from an item its label is to be seen.

        - 0: its own features, and the features of its neighbours, show it;
        - 1: its neighbours' features show it, while its own show an unrelated class;
        - 2: features of items two hops away show it. The own features of an item show an unrelated
          class, with which a second relation ``("item", "shows", attribute)`` agrees; the attribute
          types have no features. The label of i is the class that is shown by the features of the
          items j on a path from i over "has" to an attribute node, and back over "shows" to j.
    homophily : float, default=0.8
        Probability that a neighbour is of the item's class; all other classes are equally likely.
        At ``1 / n_classes`` the links say nothing.
    missing : float or dict of str to float, default=0.0
        Share of the items that lack a modality, drawn for each item and modality on its own; a dict
        gives it by modality. Less than 1. A missing row is a row of NaN.
    missing_attributes : float or dict of str to float, default=0.0
        The same for the attribute nodes of all types.
    missing_types : dict of str to str or list of str, default=None
        Modalities that a whole node type lacks, as in ``{"attribute_0": "modality_1"}``.
    misaligned : float or dict of str to float, default=0.0
        Share of the nodes that hold in each modality the row of some other node, not the same one
        for all modalities; a dict gives it by node type. The modalities of such a node contradict
        each other, which tells that it is not to be relied on.
    random_state : int, RandomState instance or None, default=None
        Seed. Different `missing`, `missing_attributes`, `misaligned` and `signal` change nothing
        else at the same seed, and a larger share contains the nodes of a smaller one.

    Returns
    -------
    Bunch
        graph : MultiModalGraph
            The network, features as float32.
        target : ndarray of shape (n_samples,)
            The label of each item, 0 to ``n_classes - 1``.
        node_type : str
            ``"item"``, so that ``graph.nodes(node_type)`` is what an estimator takes.
        bayes_accuracy : float
            Mean of the highest probability in each row of `bayes_proba`: the expected accuracy,
            given these features and links, of the classifier that knows how they were generated.
        bayes_kind : {"exact", "upper_bound"}
            Whether a classifier can reach `bayes_accuracy`. It is exact if
            ``n_attributes="own"``, and if the links say nothing. Otherwise it is the accuracy given
            the true classes of the attribute nodes, which a classifier has to infer.
        bayes_proba : ndarray of shape (n_samples, n_classes)
            Posterior of each item's label; ``bayes_proba[test].max(axis=1).mean()`` is the bound
            for the items `test`. Labels of other items would not change it.
        feature_class : dict of str to ndarray of shape (n_nodes,)
            For each node type the class that a node shows.
        informative_modality : dict of str to ndarray of shape (n_nodes,)
            For each node type the name of the modality in which a node shows its class, "all", or
            "none" where the type lacks that modality.
        misaligned : dict of str to ndarray of bool of shape (n_nodes,)
            For each node type the nodes that hold the rows of others.
        prototypes : dict of str to ndarray of shape (n_classes, n_features_m)
            For each modality the means of the classes.

    Notes
    -----
    A node that shows class :math:`c` has in an informative modality :math:`m` the row
    :math:`x^m = \mu^m_c + \varepsilon`, elsewhere :math:`x^m = \varepsilon`, with standard Gaussian
    :math:`\varepsilon` and :math:`\|\mu^m_c - \mu^m_{c'}\|` = `signal`. Which modality is
    informative, and whether one of the rows (each equally likely) belongs to another node with a
    class and informative modality of its own, is summed out of the likelihood
    :math:`p(x_i | c)`, and a missing row leaves it as it is. The posterior is then

    .. math::
        p(y_i | \cdot) \propto [p(x_i | y_i) \text{ if hops is } 0] \prod_{j \in N(i)} p_j(y_i),

    over the neighbours by "has". For attribute nodes of its own,
    :math:`p_j(y) = \sum_z p(z | y)\, p(x_j | z)`; for shared ones, whose class :math:`z_j` is taken
    as given, :math:`p_j(y) = p(z_j | y)`. Given these classes the labels are independent of each
    other and of everything else, so the bound holds however many labels a classifier has seen.

    The bound is about probabilities. The share of right answers among few items varies around it,
    by :math:`\sqrt{p (1 - p) / n}`.

    Examples
    --------
    >>> from skmmg.datasets import make_multimodal_graph
    >>> planted = make_multimodal_graph(
    ...     1000, modalities=["text", "image"], informative="per_node", n_attributes="own",
    ...     signal=4.0, random_state=0
    ... )
    >>> planted.graph.n_nodes["item"], planted.target.shape
    (1000, (1000,))
    >>> planted.bayes_kind
    'exact'
    >>> right = planted.bayes_proba.argmax(axis=1) == planted.target
    >>> bool(abs(right.mean() - planted.bayes_accuracy) < 0.03)
    True
    """
    design = check_design(
        n_samples,
        n_classes,
        modalities,
        n_features,
        attributes,
        n_attributes,
        n_neighbors,
        informative,
        signal,
        hops,
        homophily,
        missing,
        missing_attributes,
        missing_types,
        misaligned,
    )
    return _plant(design, check_random_state(random_state))


def _plant(design: Design, rng: np.random.RandomState) -> Bunch:
    """Draw the network of a design."""
    # One stream of random numbers for each part: the same seed with another share of missing rows
    # gives the same labels, links and features, and a larger share hides a superset of the rows.
    seeds = rng.randint(2**31 - 1, size=5 + len(design.owned))
    of_labels, of_means, of_links, of_gaps, *of_features, of_more_gaps = map(
        np.random.RandomState, seeds
    )
    target = of_labels.randint(design.n_classes, size=design.n_samples)
    unrelated = of_labels.randint(design.n_classes, size=design.n_samples)
    shown = unrelated if design.hops else target
    prototypes = _draw_prototypes(design, of_means)
    links = {name: draw_links(design, target, shown, of_links) for name in design.attributes}
    classes = {TARGET: shown} | {name: link.classes for name, link in links.items()}
    models = {name: _feature_model(design, name, prototypes) for name in classes}
    samples = {
        name: sample_features(models[name], classes[name], stream)
        for name, stream in zip(classes, of_features, strict=True)
    }
    _hide_rows(design, TARGET, samples[TARGET], of_gaps)
    for name in design.attributes:
        _hide_rows(design, name, samples[name], of_more_gaps)
    proba = _bayes_proba(design, models, samples, links)
    return Bunch(
        graph=_build_graph(design, samples, links),
        target=target,
        node_type=TARGET,
        bayes_accuracy=float(proba.max(axis=1).mean()),
        bayes_kind=_bayes_kind(design),
        bayes_proba=proba,
        feature_class=classes,
        informative_modality={
            name: _name_patterns(design, name)[sample.pattern] for name, sample in samples.items()
        },
        misaligned={name: sample.misaligned for name, sample in samples.items()},
        prototypes=prototypes,
    )


def _draw_prototypes(design: Design, rng: np.random.RandomState) -> dict[str, Array]:
    """Draw orthogonal class means, the same for all node types, `signal` from each other."""
    length = design.signal / np.sqrt(2)
    return {
        modality: length * np.linalg.qr(rng.standard_normal((width, design.n_classes)))[0].T
        for modality, width in design.widths.items()
    }


def _feature_model(design: Design, node_type: str, prototypes: Mapping[str, Array]) -> FeatureModel:
    """Restrict the design to the modalities that a node type has."""
    owned = [list(design.widths).index(modality) for modality in design.owned[node_type]]
    return FeatureModel(
        prototypes=tuple(prototypes[modality] for modality in design.owned[node_type]),
        patterns=design.patterns[:, owned],
        pattern_prob=design.pattern_prob,
        misaligned=design.misaligned[node_type],
    )


def _hide_rows(
    design: Design, node_type: str, sample: FeatureSample, rng: np.random.RandomState
) -> None:
    """Overwrite the missing rows of a node type by NaN."""
    hidden = rng.uniform(size=(len(design.widths), len(sample.pattern)))
    for rows, modality in zip(sample.x, design.owned[node_type], strict=True):
        share = design.missing[node_type][modality]
        rows[hidden[list(design.widths).index(modality)] < share] = np.nan


def _bayes_proba(
    design: Design,
    models: Mapping[str, FeatureModel],
    samples: Mapping[str, FeatureSample],
    links: Mapping[str, Neighborhood],
) -> Array:
    """Return the posterior of every label; the classes of shared attribute nodes are given."""
    log_proba = np.zeros((design.n_samples, design.n_classes))
    if design.hops == 0:
        log_proba += log_likelihood(models[TARGET], samples[TARGET].x, design.n_samples)
    votes = np.full((design.n_classes,) * 2, (1 - design.homophily) / (design.n_classes - 1))
    np.fill_diagonal(votes, design.homophily)  # (label, class of the neighbour)
    for attribute, link in links.items():
        evidence = log(votes.T)[link.classes]
        if design.private:
            told = log_likelihood(models[attribute], samples[attribute].x, len(link.classes))
            evidence = logsumexp(log(votes) + told[:, None], axis=2)
        log_proba += evidence[link.has].sum(axis=1)
    return np.asarray(softmax(log_proba, axis=1))


def _bayes_kind(design: Design) -> str:
    """Tell whether any given class of an attribute node is more than the graph itself says."""
    links_say_nothing = np.isclose(design.homophily, 1 / design.n_classes)
    return "exact" if design.private or links_say_nothing else "upper_bound"


def _name_patterns(design: Design, node_type: str) -> npt.NDArray[np.str_]:
    """Name the informative modality of each pattern as a node type shows it."""
    owned = design.owned[node_type]
    kept = {"all", *owned} if owned else set()
    return np.array([name if name in kept else "none" for name in design.pattern_names])


def _build_graph(
    design: Design, samples: Mapping[str, FeatureSample], links: Mapping[str, Neighborhood]
) -> MultiModalGraph:
    """Put features and links into the container; a type without modalities is a count."""
    nodes: dict[str, dict[str, npt.NDArray[np.float32]] | int] = {
        node_type: {
            modality: rows.astype(np.float32)
            for modality, rows in zip(design.owned[node_type], sample.x, strict=True)
        }
        or design.n_attributes
        for node_type, sample in samples.items()
    }
    edges = {}
    for attribute, link in links.items():
        edges[TARGET, "has", attribute] = to_edge_index(link.has)
        if link.shows.size:
            edges[TARGET, "shows", attribute] = to_edge_index(link.shows)
    return MultiModalGraph(nodes, edges)
