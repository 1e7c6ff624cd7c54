"""How items are encoded as queries that nobody has seen yet: training and vectors."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets
from torch import nn

from skmmg._sklearn import check_y
from skmmg.estimators._base import GraphEstimator
from skmmg.estimators._classic import CLASSIC, ClassicSpec
from skmmg.estimators._focus import Focus
from skmmg.estimators._folds import QueryGraphs, deal
from skmmg.estimators._gallery import Encoded, Gallery
from skmmg.estimators._labels import KnownLabels, warn_about_no_label
from skmmg.estimators._split import split_off_validation
from skmmg.graph import NodeView
from skmmg.models import MODELS, DualMLP, ModelSpec, get_model
from skmmg.training import (
    FUSED,
    Contrast,
    ContrastiveLoss,
    choose_device,
    compute,
    scale_features,
    without_gradients,
)

# items of a fold, where their number is not asked for
_FOLD_SIZE = 2048
RETRIEVAL_MODELS = {**MODELS, DualMLP.name: DualMLP, **CLASSIC}


class QueryEncoder(GraphEstimator):
    """Fit a space for all modalities, and map items into it by one modality at a time."""

    query: str | None
    gallery: str | None
    objective: str
    classification_weight: float
    n_components: int
    temperature: float | str
    n_folds: int | str
    attach: str
    index: str
    index_params: Any

    query_: str
    gallery_: str
    classes_: np.ndarray
    folds_: KnownLabels
    maps_: dict[str, Any]

    # ------------------------------------------------------------------ fit
    def _check_classes(self, y: Any, focus: Focus) -> np.ndarray | None:
        """Classes, numbered; None where there is no y."""
        self.__dict__.pop("classes_", None)
        if y is None:
            wants = [
                name
                for name, wanted in {
                    'objective="labels"': self.objective == "labels",
                    "classification_weight > 0": self.classification_weight > 0,
                }.items()
                if wanted
            ]
            if wants:
                raise ValueError(
                    f"{wants[0]} requires y to be passed, but the target y is None. Pass it."
                )
            return None
        y = check_one_class_each(y, len(focus.ids))
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        warn_about_no_label(self.classes_)
        return codes

    def _choose_modalities(self) -> tuple[str, str]:
        known = self._own_modalities()
        if not known:
            raise ValueError(
                "Items have to have a modality to be searched by, but nodes of type "
                f"{self.schema_.target!r} have none. Take a view of nodes with features."
            )
        if FUSED in known:
            raise ValueError(
                f"A modality cannot be named {FUSED!r}, which stands for all that an item has. "
                "Rename it."
            )
        query = known[0] if self.query is None else self.query
        gallery = known[-1] if self.gallery is None else self.gallery
        for name, modality in (("query", query), ("gallery", gallery)):
            self._check_modality(name, modality)
        return query, gallery

    def _own_modalities(self) -> list[str]:
        return list(self.schema_.node_types[str(self.schema_.target)])

    def _check_modality(self, name: str, modality: str) -> None:
        known = [*self._own_modalities(), FUSED]
        if modality not in known:
            raise ValueError(
                f"{name} has to be a modality of the fitted items, one of {known}, got "
                f"{modality!r}."
            )

    def _deal(self, n_items: int, seed: int) -> np.ndarray:
        """Folds of items; there are no more folds than items."""
        n_folds = self.n_folds
        if isinstance(n_folds, str):
            n_folds = max(2, -(-n_items // _FOLD_SIZE))
        return deal(n_items, min(n_folds, n_items), seed)

    def _on_rows(self) -> bool:
        return hasattr(self, "rows_")

    def _classic(self) -> ClassicSpec | None:
        """The method, where the model is one that is no network."""
        if isinstance(self.model, str) and self.model in CLASSIC:
            return CLASSIC[self.model]()
        return self.model if isinstance(self.model, ClassicSpec) else None

    def _model_spec(self) -> ModelSpec:
        if self.model == DualMLP.name:
            return DualMLP()
        if isinstance(self.model, str) and self.model not in RETRIEVAL_MODELS:
            close = difflib.get_close_matches(self.model, RETRIEVAL_MODELS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"model={self.model!r} is not known.{hint} Known models: "
                f"{', '.join(RETRIEVAL_MODELS)}; or pass a spec such as skmmg.models.MMGCN()."
            )
        spec = get_model(self.model)
        reason = _unfit(spec)
        if reason:
            raise ValueError(
                f"The model of a retriever has to map items to outputs that a contrastive loss can "
                f"train, got {spec!r}, {reason}. Take another one, such as model='mm_gcn'."
            )
        return spec

    def _shown_labels(self, focus: Focus, y: np.ndarray) -> KnownLabels:
        """No labels: the class of a query is the answer, or next to it."""
        nobody = np.zeros(0, dtype=np.int64)
        return KnownLabels.of(focus.at(focus.ids[:0]), nobody, rows=self._on_rows())

    def _fit_contrast(
        self, X: Any, y: Any, focus: Focus, codes: np.ndarray | None, seed: int
    ) -> None:
        self.__dict__.pop("maps_", None)
        n_items = len(focus.ids)
        by_label = codes is not None and self.objective != "pairs"
        known = np.zeros(n_items, dtype=np.int64) if codes is None else codes
        train, watched = np.arange(n_items), None
        if self.early_stopping:
            ones = np.ones(n_items)
            train, watched = split_off_validation(known, ones, self.validation_fraction, seed)
        device = choose_device(self.device)
        folds = np.full(focus.graph.n_nodes[focus.node_type], -1, dtype=np.int64)
        folds[focus.ids[train]] = self._deal(len(train), seed)
        n_folds = int(folds.max()) + 1
        if watched is not None:
            folds[focus.ids[watched]] = n_folds
        graphs = self._query_graphs(focus, folds, n_folds)
        modalities = self._own_modalities() + [FUSED] * (FUSED in (self.query_, self.gallery_))
        n_classes = len(self.classes_) if self.classification_weight else 0

        def wrap(module: nn.Module) -> nn.Module:
            return Contrast(
                module,
                focus.node_type,
                graphs,
                torch.tensor(folds, device=device),
                n_folds,
                modalities,
                self.temperature,
                (self.n_components, n_classes),
            )

        parts = [
            (focus.at(focus.ids[part]), known[part], np.ones(len(part)))
            for part in (train, watched)
            if part is not None
        ]
        self._fit_module(
            *parts[0],
            parts[1] if len(parts) > 1 else None,
            criterion=ContrastiveLoss(by_label, float(self.classification_weight)),
            stopping=None if watched is None else self._stopping_rule(),
            n_outputs=self.n_components,
            seed=seed,
            callback_data=(X, y),
            wrap=wrap,
        )
        self._n_features_out = self.n_components

    def _fit_classic(self, focus: Focus, codes: np.ndarray | None) -> None:
        for name in ("weights_", "history_", "known_labels_"):
            self.__dict__.pop(name, None)
        spec = self._classic()
        assert spec is not None
        wanted = self._own_modalities()
        if spec.name == "cca" and len(wanted) > 2 and FUSED not in (self.query_, self.gallery_):
            wanted = list(dict.fromkeys((self.query_, self.gallery_)))
        blocks = {modality: _block(focus, modality) for modality in wanted}
        self.maps_ = spec.fit_maps(blocks, codes)
        modality = wanted[0]
        width = self.maps_[modality].transform(blocks[modality][0][:1]).shape[1]
        self._n_features_out = int(width)

    def _make_gallery(self, encoded: Encoded) -> Gallery:
        gallery = Gallery(encoded, self.index, self.index_params or {})
        gallery.index(self.gallery_, self.query_)
        return gallery

    # ------------------------------------------------------------------ vectors
    def _query_graphs(self, focus: Focus, folds: np.ndarray, n_folds: int) -> QueryGraphs:
        rows = self.rows_ if self._on_rows() else None
        return QueryGraphs(focus.node_type, folds, n_folds, rows, self.attach)

    def _searchable(self) -> list[str]:
        """Modalities that have vectors, the fused one included."""
        own = list(self.maps_) if hasattr(self, "maps_") else self._own_modalities()
        return [*own, FUSED]

    def _encode_all(self, focus: Focus | None, X: Any = None) -> Encoded:
        """Unit vectors of items in every modality, and which of the items have it."""
        out = {}
        for modality in self._searchable():
            seen = self._focus_on(X, modality) if focus is None else focus
            has = self._has(seen, modality)
            vectors = np.zeros((len(has), self._n_features_out), dtype=np.float32)
            if has.any():
                vectors[has] = self._encode(seen.at(seen.ids[has]), modality)
            out[modality] = (vectors, has)
        return out

    def _has(self, focus: Focus, modality: str) -> np.ndarray:
        """Which items in focus have a modality; for "*" anything that can be encoded."""
        known = [m for m in self._searchable() if m != FUSED] if modality == FUSED else [modality]
        present = [focus.graph.present(focus.node_type, m)[focus.ids] for m in known]
        return np.logical_or.reduce(present)

    def _focus_on(self, X: Any, modality: str) -> Focus:
        """Items of X, of which only that modality is known."""
        if isinstance(X, NodeView) or not self._on_rows():
            return self._attach(X)
        blocks = self._split(self._check_rows(X, reset=False))
        return self.rows_.attach(blocks, None if modality == FUSED else modality)

    def _encode(self, focus: Focus, modality: str) -> np.ndarray:
        """Unit vectors of the items in focus, which all have the modality."""
        vectors = (
            self._encode_classic(focus, modality)
            if hasattr(self, "maps_")
            else self._encode_by_module(focus, modality)
        )
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(length > 0, length, 1.0)

    def _encode_classic(self, focus: Focus, modality: str) -> np.ndarray:
        if modality != FUSED:
            return self.maps_[modality].transform(_block(focus, modality)[0])
        total = np.zeros((len(focus.ids), self._n_features_out))
        for name in self.maps_:
            has = self._has(focus, name)
            if has.any():
                total[has] += self._encode(focus.at(focus.ids[has]), name)
        return total

    @without_gradients()
    def _encode_by_module(self, focus: Focus, modality: str) -> np.ndarray:
        """Items of one fold after the other; those that were not fitted are one of their own."""
        module = self._inference_module(self.__dict__)
        if self.known_labels_ is not None:
            focus = self.known_labels_.on(focus)
        graph = self._inference_tensors(focus)
        folds = self.folds_.on(focus).labels
        assert folds is not None
        graphs = self._query_graphs(focus, folds, int(folds.max()) + 1)
        groups = folds[focus.ids]
        out = np.empty((len(focus.ids), self._n_features_out))
        for fold in np.unique(groups):
            ids = focus.ids[groups == fold]
            seen = graphs.make(graph, ids, fold, modality)
            seen_ids = torch.tensor(ids, device=graph.device)
            output = compute(module, seen, seen_ids, self.precision)
            out[groups == fold] = output.logits.cpu().numpy()
        return out

    def _chosen(self, name: str, modality: str | None, default: str) -> str:
        if modality is None:
            return default
        self._check_modality(name, modality)
        if modality not in self._searchable():
            raise ValueError(
                f"{name}={modality!r} was not fitted: model='cca' has {list(self.maps_)}. Fit "
                "again with other modalities."
            )
        return modality

    def _vectors(self, X: Any, modality: str) -> np.ndarray:
        focus = self._focus_on(X, modality)
        has = self._has(focus, modality)
        if not has.all():
            lacking = np.flatnonzero(~has)
            raise ValueError(
                f"Items of X have to have modality {modality!r} to be encoded by it, but "
                f"{len(lacking)} of {len(has)} lack it, the first one in row {lacking[0]}. Leave "
                "them out, or choose a modality that they have."
            )
        return self._encode(focus, modality)

    def _vectors_of_some(self, X: Any, modality: str) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of those items of X that have a modality, and which these are."""
        focus = self._focus_on(X, modality)
        has = self._has(focus, modality)
        if not has.any():
            raise ValueError(f"No item of X has modality {modality!r}, so there is no score.")
        return self._encode(focus.at(focus.ids[has]), modality), has


def check_one_class_each(y: Any, n_items: int) -> np.ndarray:
    """Classes of items as an array of one dimension."""
    y = check_y(y)
    if len(y) != n_items:
        raise ValueError(
            f"y has to hold one class per item of X, got {len(y)} classes for {n_items} items. "
            "Slice both alike: X[part], y[part]."
        )
    return y


def _unfit(spec: ModelSpec) -> str:
    """Why a model cannot be trained to retrieve; nothing if it can."""
    if spec.self_supervised:
        return "which is trained without labels, by a loss of its own"
    if spec.tasks == ("graph classification",):
        return "whose samples are graphs"
    return ""


def _block(focus: Focus, modality: str) -> tuple[Any, np.ndarray]:
    """Scaled features of the items in focus, and which of them are there."""
    graph, node_type = focus.graph, focus.node_type
    present = graph.present(node_type, modality)[focus.ids]
    rows = graph.x[node_type][modality][focus.ids]
    return scale_features(rows, present, *focus.statistics[node_type][modality]), present
