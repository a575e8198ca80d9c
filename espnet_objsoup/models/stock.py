# SPDX-License-Identifier: Apache-2.0
"""The objectives of ESPnet's own models, taken where the models compute their losses.

A model stays an instance of ESPnet's class with ESPnet's parameters. While a soup is trained, its
`_calc_*` methods and its `forward` are wrapped on the instance; nothing is installed otherwise.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import Tensor, nn

from espnet_objsoup.models.gradient_scale import GradientScale, scale_gradient
from espnet_objsoup.models.stock_objectives import MT, SHARED_MODULES, stock_kind


class StockObjectives:
    """What a soup needs of one of ESPnet's models (`soup_run.SoupModel`), put on the instance.

    With `installed()`, training batches go through the model as ever, and besides

    - each `_calc_*` method gets the encoder output through the soup's gradient scale, so that the
      coefficient of its objective acts where the encoder ends;
    - `forward` returns a dict with ESPnet's `loss`, `stats` and `weight`, `losses` (objective ->
      the loss that ESPnet computed for the batch) and `counts` (B, or 0 without any target);
    - while `measuring`, it also returns `utterance_losses` and `objective_index`: per objective
      (B,) stand-ins for the utterances' losses, and (B,) its index, -1 where there is no target.

    ESPnet reports a loss per batch: a sum over utterances b of terms f_b(h_b) / n, with h_b the
    rows of the encoder output h. In parameters before the heads, the gradient of f_b is that of

        <h_b, c_b>,    c = n * d loss / d h, held constant,

    and that is the stand-in. It costs one backward pass through the head, has the step's own
    dropout, draws no random number, and leaves ESPnet's normalisation (by utterances or by tokens)
    as it is: the stand-ins' gradients have the batch loss's gradient as their mean. Their values
    mean nothing, except that they are not finite for an utterance whose gradient is not.

    Args:
        model: of a class that `stock_objectives` knows.

    Attributes:
        objectives: names, in the order of all results.
        weights: objective -> weight in the model's own loss.
        measuring: whether forward passes return stand-ins.
        loss_scale: factor on losses during the heads' backward passes, against underflow in half
            precision; divided out again.

    Raises:
        StockModelError: if the objectives of the model cannot be told apart.
    """

    def __init__(self, model: AbsESPnetModel) -> None:
        self.model = model
        self.kind = stock_kind(model)
        self.weights = self.kind.weights(model)
        self.objectives = tuple(self.weights)
        self.measuring = False
        self.loss_scale = 1.0
        self._batch_size = 0
        self._losses: dict[str, Tensor] = {}
        self._stand_ins: dict[str, Tensor] = {}
        self._index: dict[str, Tensor] = {}

    @property
    def objectives_of_head(self) -> dict[str, int]:
        """Objective -> number of objectives whose gradients its head averages."""
        shared = [name for name in self.objectives if name in ("st/att", MT)]
        return {name: len(shared) if name in shared else 1 for name in self.objectives}

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters before the heads: those on which objectives can conflict."""
        modules = [getattr(self.model, name, None) for name in SHARED_MODULES]
        parameters = [p for module in modules if module is not None for p in module.parameters()]
        return [parameter for parameter in parameters if parameter.requires_grad]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within it, the instance is a `soup_run.SoupModel`."""
        attributes: dict[str, Any] = {
            "objectives": self.objectives,
            "objectives_of_head": self.objectives_of_head,
            "gradient_scale": None,
            "shared_parameters": self.shared_parameters,
            "loss_mode": "espnet",
            "forward": self._forward(self.model.forward),
        }
        for method, objective in self.kind.methods.items():
            attributes[method] = self._method(objective, getattr(self.model, method))
        for name, value in attributes.items():
            setattr(self.model, name, value)
        try:
            yield
        finally:
            for name in attributes:
                delattr(self.model, name)

    def _forward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forward(**batch: Any) -> Any:
            if not self.model.training:
                return original(**batch)
            self._losses, self._stand_ins, self._index = {}, {}, {}
            loss, stats, weight = original(**batch)
            output = {"loss": loss, "stats": stats, "weight": weight, **self._losses_of(loss)}
            if self.measuring:
                output["utterance_losses"] = self._stand_ins
                output["objective_index"] = self._index
            # The graph belongs to the step from here on.
            self._losses, self._stand_ins, self._index = {}, {}, {}
            return output

        return forward

    def _losses_of(self, loss: Tensor) -> dict[str, dict[str, Tensor]]:
        """`losses` and `counts`, in the order of the objectives."""
        losses, counts = {}, {}
        for name in self.objectives:
            value = self._losses[name]
            # A loss without any target is a constant.
            count = self._batch_size if value.requires_grad else 0
            losses[name] = value.to(loss)
            counts[name] = loss.new_tensor(count, dtype=torch.long)
        return {"losses": losses, "counts": counts}

    def _method(self, objective: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def method(h: Tensor, lengths: Tensor, targets: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not self.model.training:
                return original(h, lengths, targets, *args, **kwargs)
            name = MT if kwargs.get("st") is False else objective
            k = self.objectives.index(name)
            index = torch.full((h.size(0),), k, device=h.device)
            scale: GradientScale | None = self.model.gradient_scale
            scaled = h if scale is None else scale_gradient(h, index, scale)
            result = original(scaled, lengths, targets, *args, **kwargs)
            self._batch_size = h.size(0)
            self._losses[name] = result[0]
            if self.measuring:
                present = self.kind.present(self.model, name, targets)
                self._index[name] = torch.where(present, index, -1)
                self._stand_ins[name] = self._stand_in(result[0], h, present)
            return result

        return method

    def _stand_in(self, loss: Tensor, h: Tensor, present: Tensor) -> Tensor:
        """(B,) for a batch's loss; h is (B, T, D), and (B,) `present` whether there is a target."""
        if not loss.requires_grad:
            return h.new_zeros(h.size(0))
        (cotangent,) = torch.autograd.grad(loss * self.loss_scale, h, retain_graph=True)
        precise = torch.promote_types(h.dtype, torch.float32)
        cotangent = cotangent.to(precise) * (present.sum() / self.loss_scale)
        return (h.to(precise) * cotangent).flatten(1).sum(1)
