"""Modality by modality: what is done to the features before a model sees them."""

from __future__ import annotations

from skmmg.preprocessing._modality_transformer import ModalityTransformer

__all__ = ["ModalityTransformer"]
