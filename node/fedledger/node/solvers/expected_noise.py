"""Training for a noisy channel, expectation-based model (Ang et al. 2020, https://arxiv.org/abs/1911.00251)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedledger.learning.data import Dataset
from fedledger.learning.global_generators import seed_generators
from fedledger.learning.objectives.base import Loss
from fedledger.learning.vectors import FlatModel
from fedledger.node.solvers.base import SOLVERS
from fedledger.node.solvers.minibatch import Backward
from fedledger.node.solvers.sgd import SGD
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Real


@SOLVERS.register("expected_noise@1")
@dataclass(frozen=True, kw_only=True)
class ExpectedNoise(SGD):
    """SGD on F(θ) + σ²·‖∇F(θ)‖², for models that arrive as θ + e with e ~ N(0, σ²I).

    F is a batch's mean loss. The gradient of the sum is ∇F + 2σ²·∇²F·∇F, which two backward passes through one forward
    pass compute without the Hessian, up to rounding. So dropout draws and a model's statistics move as in SGD. The
    penalty stands in for what noise costs on average, to second order σ²/2·tr ∇²F, and prefers models around which the
    loss is flat. ``max_gradient_norm`` bounds the gradient of the sum, and the loss that is reported is F alone.

    Parameters
    ----------
    deviation
        Standard deviation σ of the noise in each coordinate; with 0 this is SGD. The others are those of `SGD`.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    deviation: Annotated[float, Real(0, 1e3)] = 0.1

    def backward(self, model: FlatModel, loss: Loss, inputs: torch.dtype, seed: int) -> Backward:
        """Return what computes a batch's loss and the gradient of the sum.

        It raises ConfigError if the model or the loss has no second derivative.
        """
        if not self.deviation:
            return super().backward(model, loss, inputs, seed)
        seed_generators(seed)
        parameters = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
        strength = self.deviation * self.deviation

        def penalised(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            model.gradient.zero_()
            # The faster kernels of attention have no second derivative.
            with sdpa_kernel(SDPBackend.MATH):
                value = loss(model.module(inputs), targets, inputs)
            first = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
            penalty = torch.stack([each.square().sum() for each in first if each is not None]).sum()
            try:
                (value + strength * penalty).backward()  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise ConfigError(
                    f"expected_noise@1 needs second derivatives, and this model or loss has none: {error}",
                    "Train with worst_case_noise@1, or with a model whose operations can be differentiated twice.",
                ) from error
            return value.detach()

        return penalised

    def require_suited(self, model: FlatModel, dataset: Dataset, sizes: Iterable[int], loss: Loss) -> None:
        """Raise ConfigError if a model does not take the batches of participants, or has no second derivative."""
        super().require_suited(model, dataset, sizes, loss)
        inputs, targets = (tensor[: self.batch_size].to(model.device) for tensor in dataset.tensors)
        model.module.train()
        backward = self.backward(model, loss, inputs.dtype, 0)
        try:
            backward(inputs, targets)
        except ConfigError:
            raise
        except Exception:
            # Whatever else a model raises, it raises in plain SGD as well, which is tried elsewhere.
            return
