"""Layers: what one operator computes, on tensors."""

from skmmg.nn._att_hgnn_conv import AttHGNNConv
from skmmg.nn._attention import Attention
from skmmg.nn._backend import set_backend
from skmmg.nn._block_gcn_conv import BlockGCNConv
from skmmg.nn._cross_modal_attention import CrossModalAttention
from skmmg.nn._hgnn_ima_conv import HGNNIMAConv
from skmmg.nn._inputs import GraphTensors
from skmmg.nn._modality_attention import ModalityAttention
from skmmg.nn._modality_encoder import ModalityEncoder
from skmmg.nn._sag_pool import SAGPool
from skmmg.nn._sparse import SparseMatrix

__all__ = [
    "AttHGNNConv",
    "Attention",
    "BlockGCNConv",
    "CrossModalAttention",
    "GraphTensors",
    "HGNNIMAConv",
    "ModalityAttention",
    "ModalityEncoder",
    "SAGPool",
    "SparseMatrix",
    "set_backend",
]
