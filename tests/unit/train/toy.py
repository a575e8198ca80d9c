# SPDX-License-Identifier: Apache-2.0
"""A linear model with three objectives, and what ESPnet's trainer needs around it."""

from pathlib import Path
from types import SimpleNamespace

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.schedulers.warmup_lr import WarmupLR
from espnet2.tasks.abs_task import scheduler_classes
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.distributed_utils import DistributedOption
from torch import Tensor

from espnet_objsoup.models.gradient_scale import scale_gradient

OBJECTIVES = ("asr/de", "asr/fr", "st/fr-en")
DEFAULTS = {
    "ngpu": 0,
    "resume": True,
    "use_amp": False,
    "train_dtype": "float64",
    "grad_noise": False,
    "accum_grad": 1,
    "grad_clip": 0.5,
    "grad_clip_type": 2.0,
    "log_interval": None,
    "no_forward_run": False,
    "use_matplotlib": False,
    "use_tensorboard": False,
    "use_wandb": False,
    "adapter": "lora",
    "use_adapter": False,
    "save_strategy": "all",
    "max_epoch": 2,
    "seed": 3,
    "sharded_ddp": False,
    "patience": None,
    "keep_nbest_models": 1,
    "nbest_averaging_interval": 0,
    "early_stopping_criterion": ("valid", "loss", "min"),
    "best_model_criterion": (("valid", "loss", "min"),),
    "val_scheduler_criterion": ("valid", "loss"),
    "unused_parameters": False,
    "wandb_model_log_interval": -1,
    "create_graph_in_tensorboard": False,
    "gradient_as_bucket_view": True,
    "ddp_comm_hook": None,
}


class ToyModel(AbsESPnetModel):
    """Least squares; utterance b belongs to objective `index[b]`."""

    def __init__(self, objectives: tuple[str, ...] = OBJECTIVES, loss_mode: str = "token") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 2).double()
        self.objectives = objectives
        self.loss_mode = loss_mode

        self.gradient_scale = None
        self.objectives_of_head = dict.fromkeys(objectives, len(objectives))

    def shared_parameters(self) -> list[torch.nn.Parameter]:
        return list(self.linear.parameters())

    def forward(self, x: Tensor, y: Tensor, index: Tensor, **_: object) -> dict:
        # One head without parameters for all objectives.
        h = self.linear(x)
        if self.gradient_scale is not None:
            h = scale_gradient(h, index, self.gradient_scale)
        per_utterance = (h - y).square().sum(1)
        losses, counts = {}, {}
        for k, name in enumerate(self.objectives):
            rows = index == k
            counts[name] = rows.sum()
            losses[name] = per_utterance[rows].sum() / counts[name].clamp(min=1)
        loss = per_utterance.mean()
        stats = {"loss": loss.detach()}
        loss, stats, weight = force_gatherable((loss, stats, len(x)), loss.device)
        return {
            "loss": loss,
            "stats": stats,
            "weight": weight,
            "losses": losses,
            "counts": counts,
            "utterance_losses": {"toy": per_utterance},
            "objective_index": {"toy": index},
        }

    def collect_feats(self, **_: Tensor) -> dict[str, Tensor]:
        return {}


class ToyData(AbsIterFactory):
    """The same batches on every platform, new ones in every epoch."""

    def __init__(self, batches: int = 6, size: int = 8) -> None:
        self.batches, self.size = batches, size

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> list:
        generator = torch.Generator().manual_seed(epoch)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        result = []
        for i in range(self.batches):
            # Objective 2 is absent from every third batch.
            index = torch.arange(self.size) % (2 if i % 3 == 0 else 3)
            batch = {"x": draw(self.size, 4), "y": draw(self.size, 2), "index": index}
            result.append(([f"u{j}" for j in range(self.size)], batch))
        return result


def make_args(output_dir: Path, **changes: object) -> SimpleNamespace:
    import argparse

    conf = {"trainer_conf": {}, "output_dir": str(output_dir), **DEFAULTS, **changes}
    return argparse.Namespace(**conf)


# Name -> scheduler of an optimiser: by step, by epoch, by the validation loss, none.
SCHEDULERS = {
    "batch": lambda optimizer: WarmupLR(optimizer, warmup_steps=5),
    "epoch": lambda optimizer: scheduler_classes["steplr"](optimizer, step_size=1, gamma=0.5),
    "valid": lambda optimizer: scheduler_classes["reducelronplateau"](
        optimizer, patience=0, factor=0.1, threshold=0.5
    ),
    "none": lambda optimizer: None,
}


def run(
    trainer: type,
    output_dir: Path,
    model: ToyModel | None = None,
    scheduler: str = "batch",
    n_optimizers: int = 1,
    data: AbsIterFactory | None = None,
    distributed_option: DistributedOption | None = None,
    **changes: object,
):
    """Train; returns the model."""
    output_dir.mkdir(parents=True, exist_ok=True)
    model = model or ToyModel()
    groups = [[p] for p in model.parameters()] if n_optimizers > 1 else [list(model.parameters())]
    optimizers = [torch.optim.Adam(group, lr=0.05 / (i + 1)) for i, group in enumerate(groups)]
    if distributed_option is None:
        distributed_option = DistributedOption()
        distributed_option.init_options()
    trainer.run(
        model=model,
        optimizers=optimizers,
        schedulers=[SCHEDULERS[scheduler](optimizer) for optimizer in optimizers],
        train_iter_factory=data or ToyData(),
        valid_iter_factory=ToyData(2),
        plot_attention_iter_factory=None,
        trainer_options=trainer.build_options(make_args(output_dir, **changes)),
        distributed_option=distributed_option,
    )
    return model


def parameters(model: ToyModel) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])
