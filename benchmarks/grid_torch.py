"""Study 3's network in PyTorch; a module of its own, so that joblib's processes can import it."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.grid_peers import CLASSES


class Network(nn.Module):
    """Two LSTM layers with dropout between them, a dense layer, logits."""

    def __init__(self, n: int = 50, dropout: float = 0.1) -> None:
        super().__init__()
        self.first = nn.LSTM(28, n, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.LSTM(n, n // 2, batch_first=True)
        self.dense = nn.Linear(n // 2, n // 2)
        self.logits = nn.Linear(n // 2, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images ``[B, 28, 28]`` to logits ``[B, 62]``."""
        x, _ = self.first(x)
        x, _ = self.second(self.dropout(x))
        return self.logits(torch.relu(self.dense(x[:, -1])))
