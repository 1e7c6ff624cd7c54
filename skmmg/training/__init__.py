"""How a model is trained: tensors of a graph, losses, the skorch net, when to stop."""

from skmmg.training._infomax import Infomax, InfomaxLoss
from skmmg.training._losses import ClassificationLoss, SelfSupervisedLoss
from skmmg.training._net import GraphNet, NodeDataset
from skmmg.training._progress import EpochTasks
from skmmg.training._tensors import Statistics, column_statistics, graph_tensors, scale_features
from skmmg.training._train import OPTIMIZERS, choose_device, private_seed, train

__all__ = [
    "OPTIMIZERS",
    "ClassificationLoss",
    "EpochTasks",
    "GraphNet",
    "Infomax",
    "InfomaxLoss",
    "NodeDataset",
    "SelfSupervisedLoss",
    "Statistics",
    "choose_device",
    "column_statistics",
    "graph_tensors",
    "private_seed",
    "scale_features",
    "train",
]
