"""How a model is trained: tensors of a graph, losses, the skorch net, when to stop."""

from skmmg.training._batches import BatchPlan
from skmmg.training._contrast import FUSED, Contrast, ContrastiveLoss
from skmmg.training._inference import infer_in_blocks, is_faster_in_blocks
from skmmg.training._infomax import Infomax, InfomaxLoss
from skmmg.training._losses import ClassificationLoss, SelfSupervisedLoss
from skmmg.training._net import GraphNet, NodeDataset
from skmmg.training._parallel import Ranks
from skmmg.training._precision import autocast, compute
from skmmg.training._progress import EpochTasks
from skmmg.training._queries import hide, silence
from skmmg.training._store import GraphStore
from skmmg.training._tensors import (
    Statistics,
    column_statistics,
    graph_tensors,
    labelled_tensors,
    scale_features,
)
from skmmg.training._train import (
    OPTIMIZERS,
    choose_device,
    private_seed,
    train,
    without_gradients,
)

__all__ = [
    "FUSED",
    "OPTIMIZERS",
    "BatchPlan",
    "ClassificationLoss",
    "Contrast",
    "ContrastiveLoss",
    "EpochTasks",
    "GraphNet",
    "GraphStore",
    "Infomax",
    "InfomaxLoss",
    "NodeDataset",
    "Ranks",
    "SelfSupervisedLoss",
    "Statistics",
    "autocast",
    "choose_device",
    "column_statistics",
    "compute",
    "graph_tensors",
    "hide",
    "infer_in_blocks",
    "is_faster_in_blocks",
    "labelled_tensors",
    "private_seed",
    "scale_features",
    "silence",
    "train",
    "without_gradients",
]
