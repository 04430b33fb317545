"""Sequences of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import OBJECTIVES, Batch, Evaluated, described, unsuitable
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked

KEY = "tokens@1"
PADDING = -1
AT_ONCE = 1 << 20
"""Logits that are looked at in double precision at once."""


@OBJECTIVES.register(KEY)
@dataclass(frozen=True)
class Tokens(Checked):
    """Minimises the cross-entropy a token of sequences; the score counts the tokens that are predicted correctly.

    An example has a target token at each place, −1 where it is padding. The loss of a batch is the mean over its
    tokens.
    """

    lower_is_better = False
    loss_name = "cross-entropy a token (nats)"
    score_name = "token accuracy"

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return the data set itself, if its targets are sequences of tokens."""
        targets = dataset.targets
        if targets.dtype != np.int64 or targets.ndim != 2:
            raise unsuitable(dataset, KEY, "a token at each place, int64[n, length]")
        if len(dataset) and targets.min() < PADDING:
            raise ConfigError(
                f"A target token is {targets.min()}.", f"Number the tokens from 0; {PADDING} stands for padding."
            )
        return dataset

    def check(
        self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor, classes: int | None = None
    ) -> None:
        """Check logits [m, length, vocabulary], and that every target is a token of it, and not all are padding."""
        if targets.dtype != torch.int64 or targets.ndim != 2 or not targets.shape[1]:
            raise ConfigError(
                f"The objective {KEY} wants a token at each place, int64[n, length]; the targets are "
                f"{described(targets)}.",
                "Give sequences of tokens as targets, or name the objective that the targets suit.",
            )
        length = targets.shape[1]
        if not outputs.is_floating_point() or outputs.ndim != 3 or outputs.shape[1] != length:
            raise ConfigError(
                f"The model's output is {described(outputs)}; the targets have {length} tokens an example.",
                f"Return logits [examples, {length}, vocabulary].",
            )
        low, high = int(targets.min()), int(targets.max())
        if low < PADDING or high >= outputs.shape[2]:
            raise ConfigError(
                f"The model's vocabulary has {outputs.shape[2]} tokens, a target is {high if high > 0 else low}.",
                f"Number the tokens from 0 and give the model as many; {PADDING} stands for padding.",
            )
        if high < 0:
            raise ConfigError("All target tokens are padding.", "Give tokens to predict.")

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch's tokens; 0 if all are padding."""
        total = functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), ignore_index=PADDING, reduction="sum"
        )
        return total / (targets != PADDING).sum().clamp_(min=1)

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Measure a model batch by batch."""
        loss, right, count = 0.0, 0, 0
        for outputs, targets, _ in batches:
            every, wanted = outputs.flatten(0, 1), targets.flatten()
            rows = max(1, AT_ONCE // every.shape[1])
            for start in range(0, len(wanted), rows):
                logits, own = every[start : start + rows].double(), wanted[start : start + rows]
                is_token = own != PADDING
                loss += float(functional.cross_entropy(logits, own, ignore_index=PADDING, reduction="sum"))
                known = ~logits.isnan().any(1)
                right += int(((logits.argmax(1) == own) & known & is_token).sum())
                count += int(is_token.sum())
        return Evaluated(loss / count if count else float("nan"), right)

    def full_score(self, targets: torch.Tensor) -> int:
        """Return the number of tokens that are not padding."""
        return int((targets != PADDING).sum())

    def tolerance(self, targets: torch.Tensor) -> int:
        """Return two tokens, and one in ten thousand: about as many have two logits that rounding may swap."""
        return 2 + self.full_score(targets) // 10_000
