"""Train a model without labels: tell the nodes of the graph from nodes of a shuffled one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg.models import ModelOutput
from skmmg.nn import GraphTensors


class Infomax(nn.Module):
    r"""Deep graph infomax around any model.

    .. math:: D(z_i, s) = z_i^\top W s, \qquad s = \sigma\Bigl(\frac1n \sum_i z_i\Bigr)

    scores the embeddings :math:`z_i` of the graph, and those of the graph with its nodes' features
    shuffled within every node type, against the summary :math:`s` of the graph.

    References
    ----------
    Velickovic et al., Deep graph infomax, ICLR 2019, section 3.2. The paper has one node type;
    shuffling within node types is our extension.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        channels = int(module.out_channels)  # type: ignore[arg-type]
        self.weight = nn.Parameter(torch.empty(channels, channels))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Scores (n_samples, 2) of the shuffled and of the true embeddings."""
        infer = getattr(self.module, "infer", self.module)
        true = infer(graph, ids).embedding
        shuffled = infer(graph.shuffled(), ids).embedding
        summary = self.weight @ true.mean(0).sigmoid()
        return ModelOutput(torch.stack([shuffled @ summary, true @ summary], 1), true)


class InfomaxLoss(nn.Module):
    """Binary cross-entropy of telling true from shuffled embeddings."""

    def forward(
        self, output: ModelOutput, y: Tensor, weight: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts."""
        wanted = torch.zeros_like(output.logits)
        wanted[:, 1] = 1.0
        losses = F.binary_cross_entropy_with_logits(output.logits, wanted, reduction="none")
        loss = (losses.mean(1) * weight).mean()
        return loss, {"bce": loss}
