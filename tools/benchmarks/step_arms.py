# SPDX-License-Identifier: Apache-2.0
"""Ways to take a training step, each behind the interface of a trainer.

All arms but `plain` go through this package's loop (`AbsTrainer`), so that reporting, clipping and
the update are the same; an arm is what it does between the losses and `.grad`.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from espnet2.torch_utils.device_funcs import to_device
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass
from step_setup import Data, Size, make_batch, task_arguments
from torch import Tensor, nn
from torch.amp import GradScaler
from torchjd.aggregation import MGDA, MGDAWeighting
from torchjd.autogram import Engine
from torchjd.autojac import jac_to_grad, mtl_backward

from espnet_objsoup.tasks.objsoup import ObjSoupTask
from espnet_objsoup.train.abs_trainer import AbsTrainer, EpochContext
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.options import SoupConf
from espnet_objsoup.train.soup_run import SoupRun

NEVER = 10**9


@dataclass(frozen=True)
class Arm:
    """A way to take a step.

    Attributes:
        name: in tables.
        trainer: class with `train_one_epoch`.
        conf: `trainer_conf` of ObjSoupTrainer; None for other trainers.
        steps: that make up one measurement (a refresh interval).
        baseline: another way than the grouped engine.
        phase: `SoupRun.steps` to start from.
        note: what it does, in words.
    """

    name: str
    trainer: type[Trainer]
    note: str
    conf: Mapping[str, Any] | None = None
    steps: int = 1
    baseline: bool = False
    phase: int = 0


class _OwnBackward(AbsTrainer):
    """Keeps the model's output for `backward`."""

    @classmethod
    def objective(
        cls, context: EpochContext, output: dict[str, Any], batch: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """ESPnet's scalar."""
        context.output = output
        return super().objective(context, output, batch)


class JacobianTrainer(_OwnBackward):
    """TorchJD's `mtl_backward`: the Jacobian of the whole shared part, then MGDA."""

    @classmethod
    def forward(cls, context: EpochContext, batch: dict[str, Any]) -> dict[str, Any]:
        """Keep what every encoder pass returns."""
        passes: list[Tensor] = []
        encoder = context.module.encoder
        handle = encoder.register_forward_hook(lambda _, inputs, output: passes.append(output[0]))
        try:
            output = super().forward(context, batch)
        finally:
            handle.remove()
        return {**output, "passes": passes}

    @classmethod
    def backward(cls, context: EpochContext, loss: Tensor) -> None:
        """Jacobian of the shared part by rows, aggregated; heads get their own gradients."""
        losses = [x for x in context.output["losses"].values() if x.requires_grad]
        shared = context.module.shared_parameters()
        mtl_backward(
            losses,
            features=context.output["passes"],
            shared_params=shared,
            retain_graph=True,  # objectives of a task share their head's graph
        )
        jac_to_grad([p for p in shared if getattr(p, "jac", None) is not None], MGDA())


class AutogramTrainer(_OwnBackward):
    """TorchJD's autogram on the last two layers: Gramian of all utterances, then one backward."""

    engine: Engine

    @classmethod
    def prepare(cls, model: nn.Module) -> None:
        """Hook the modules with parameters of the last two layers.

        Left out: `linear_pos`, whose input has no utterances, and the positional biases, which
        their module uses directly next to submodules with parameters.
        """
        modules = [
            module
            for block in model.encoder.encoders[-2:]
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear | nn.Conv1d | nn.LayerNorm) and "linear_pos" not in name
        ]
        cls.engine = Engine(*modules, batch_dim=1)

    @classmethod
    def backward(cls, context: EpochContext, loss: Tensor) -> None:
        """Sums of the Gramian of utterances by objective; its weights in one backward pass."""
        output = context.output
        losses = torch.stack(list(output["utterance_losses"].values()))
        of_utterances = cls.engine.compute_gramian(losses)  # (tasks * B, tasks * B)
        index = torch.stack([output["objective_index"][t] for t in output["utterance_losses"]])
        n = len(output["losses"])
        membership = torch.nn.functional.one_hot(index.flatten() + 1, n + 1)[:, 1:].to(losses)
        gramian = membership.T @ of_utterances @ membership
        weights = MGDAWeighting()(gramian)
        rows = membership @ weights
        (losses.flatten() * rows).sum().backward()


class PerObjectiveTrainer(_OwnBackward):
    """A forward and backward pass per objective, on its own utterances; the Jacobian is kept."""

    @classmethod
    def forward(cls, context: EpochContext, batch: dict[str, Any]) -> dict[str, Any]:
        """All passes; heads accumulate, the shared part's gradients are taken away."""
        model = context.module
        shared = model.shared_parameters()
        rows, output = [], {}
        for own in _batches_of_objectives(model, batch):
            output = super().forward(context, own)
            (sum(output["utterance_losses"].values()).sum() / len(own["utt_id"])).backward()
            rows.append(torch.cat([_taken(p).flatten() for p in shared]))
        return {**output, "jacobian": torch.stack(rows)}

    @classmethod
    def backward(cls, context: EpochContext, loss: Tensor) -> None:
        """Put the direction where gradients are expected."""
        jacobian = context.output["jacobian"]
        direction = MGDAWeighting()(jacobian @ jacobian.T) @ jacobian
        shared = context.module.shared_parameters()
        pieces = direction.split([p.numel() for p in shared])
        for parameter, piece in zip(shared, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)


def _taken(parameter: nn.Parameter) -> Tensor:
    """The gradient, which is cleared."""
    gradient, parameter.grad = parameter.grad, None
    return torch.zeros_like(parameter) if gradient is None else gradient


def _batches_of_objectives(model: nn.Module, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The utterances of every objective, without labels of other tasks."""
    texts = {"asr": "text", "st": "st_text"}
    for task, index in model.objective_index(batch).items():
        drop = [
            f"{text}{end}" for t, text in texts.items() if t != task for end in ("", "_lengths")
        ]
        for k in sorted(set(index.tolist()) - {-1}):
            rows = (index == k).nonzero()[:, 0]
            own = {
                key: value[rows]
                for key, value in batch.items()
                if isinstance(value, Tensor) and key not in drop
            }
            yield {**own, "utt_id": [batch["utt_id"][i] for i in rows.tolist()]}


def _last(k: int, **conf: Any) -> dict[str, Any]:
    return {"recipe": "flat", "layers": {"policy": "last_k", "last_k": k}, **conf}


def arms(size: Size) -> list[Arm]:
    """All arms, the cheapest first."""
    third = size.top_third
    interval = SoupConf().weights_interval
    found = [
        Arm("plain", Trainer, "ESPnet's own trainer"),
        Arm(
            "no refresh", ObjSoupTrainer, "objsoup, a step that measures nothing",
            _last(2, weights_interval=NEVER), phase=1,
        ),
        Arm(
            "default", ObjSoupTrainer, f"objsoup, mean of {interval} steps, last 2 layers",
            _last(2), steps=interval,
        ),
        Arm(
            "default, third", ObjSoupTrainer, f"the same with the top {third} layers",
            _last(third), steps=interval,
        ),
        Arm(
            "refresh", ObjSoupTrainer, "objsoup, a step that refreshes, last 2 layers",
            _last(2, weights_interval=1),
        ),
        Arm(
            "refresh, third", ObjSoupTrainer, f"the same with the top {third} layers",
            _last(third, weights_interval=1),
        ),
        Arm(
            "scan", ObjSoupTrainer, "objsoup, a step that measures all layers",
            {"recipe": "flat", "weights_interval": 1, "layers": {"policy": "all"}},
        ),
        Arm(
            "autogram", AutogramTrainer, "TorchJD autogram, last 2 layers, MGDA", baseline=True,
        ),
        Arm(
            "reference", ObjSoupTrainer, "objsoup by reference, last 2 layers",
            _last(2, weights_interval=1, gradient_engine="reference"), baseline=True,
        ),
        Arm(
            "per objective", PerObjectiveTrainer,
            "forward and backward per objective, whole shared part, MGDA", baseline=True,
        ),
        Arm(
            "mtl_backward", JacobianTrainer, "TorchJD mtl_backward, whole shared part, MGDA",
            baseline=True,
        ),
        Arm(
            "reference, all", ObjSoupTrainer, "objsoup by reference, all layers",
            {"recipe": "flat", "weights_interval": 1, "gradient_engine": "reference",
             "layers": {"policy": "all"}}, baseline=True,
        ),
    ]  # fmt: skip
    same = [f"{name}, third" for name in ("default", "refresh")] if third == 2 else []
    return [arm for arm in found if arm.name not in same]


@dataclass(frozen=True)
class Time:
    """Of a step: on the clock, and of the processor (all threads of this process)."""

    wall_s: float
    cpu_s: float


class Batches:
    """Identical batches for an epoch; notes when each was taken and when the next was asked for.

    Args:
        batch: names and tensors.
        n: steps of the epoch.
        wait: for the device.
    """

    def __init__(
        self, batch: tuple[list[str], dict[str, Tensor]], n: int, wait: Callable[[], None]
    ) -> None:
        self.batch, self.n, self.wait = batch, n, wait
        self.times: list[tuple[float, float]] = []

    def __len__(self) -> int:
        """Steps of the epoch."""
        return self.n

    def __iter__(self) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        """Batches, timed from being handed out until the next one is wanted."""
        for _ in range(self.n):
            names, tensors = self.batch
            self.wait()
            begin = time.perf_counter(), time.process_time()
            yield list(names), dict(tensors)
            self.wait()
            self.times.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))

    def mean(self) -> Time:
        """Over the steps."""
        wall, cpu = (sum(values) / len(self.times) for values in zip(*self.times, strict=True))
        return Time(wall, cpu)


@dataclass
class Bench:
    """One model and its optimiser, on which all arms take their steps.

    Attributes:
        amp: mixed precision as ESPnet's `use_amp` has it: bfloat16 where the GPU knows it.
        model: shared by all arms but autogram, which changes it.
    """

    size: Size
    data: Data
    n_objectives: int
    device: str = "cpu"
    ssl: str = "none"
    amp: bool = False
    model: nn.Module = field(init=False)
    _states: dict[str, tuple[Any, Any]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Build the model and the batch."""
        self._directory = tempfile.TemporaryDirectory()
        self.args = task_arguments(
            Path(self._directory.name), self.size, self.n_objectives, self.ssl
        )
        self.args.ngpu = int(self.device == "cuda")
        self.args.use_amp = self.amp
        self.scaler = GradScaler() if self.amp else None
        names, batch = make_batch(self.n_objectives, self.data, self.size.vocabulary)
        self.batch = names, to_device(batch, self.device)
        self.model, self.optimizer = self._build()
        self.distributed = DistributedOption()
        self.distributed.init_options()
        self.reporter = Reporter()

    def _build(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(1)
        model = ObjSoupTask.build_model(self.args).to(self.device)
        return model, ObjSoupTask.build_optimizers(self.args, model)[0]

    def _state(self, arm: Arm) -> tuple[nn.Module, torch.optim.Optimizer, TrainerOptions]:
        if arm.name not in self._states:
            model, optimizer = self.model, self.optimizer
            if arm.trainer is AutogramTrainer:
                model, optimizer = self._build()
                AutogramTrainer.prepare(model)
            self._states[arm.name] = model, optimizer, self._options(arm, model)
        return self._states[arm.name]

    def _options(self, arm: Arm, model: nn.Module) -> TrainerOptions:
        if arm.conf is None:
            options = build_dataclass(TrainerOptions, self.args)
        else:
            self.args.trainer_conf = dict(arm.conf)
            options = arm.trainer.build_options(self.args)
            options.run = SoupRun(options.soup, self.unwrapped(model))
            options.run.steps = arm.phase
        options.log_interval = NEVER
        return options

    def unwrapped(self, model: nn.Module) -> nn.Module:
        """The model without a wrapper, of which there is none here."""
        return model

    def wait(self) -> None:
        """For the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def measure(self, arm: Arm) -> Time:
        """Time of a step of an arm, the mean over `arm.steps`."""
        model, optimizer, options = self._state(arm)
        scale = options.run.scale if arm.conf is not None else None
        self.unwrapped(model).gradient_scale = scale
        batches = Batches(self.batch, arm.steps, self.wait)
        self.reporter.set_epoch(self.reporter.get_epoch() + 1)
        with self.reporter.observe("train") as reporter:
            arm.trainer.train_one_epoch(
                model=model,
                iterator=batches,
                optimizers=[optimizer],
                schedulers=[None],
                scaler=self.scaler,
                reporter=reporter,
                summary_writer=None,
                options=options,
                distributed_option=self.distributed,
            )
        return batches.mean()

    def held_bytes(self, arm: Arm) -> int:
        """Bytes that stay allocated between steps: parameters, buffers, optimiser, batch."""
        model, optimizer, _ = self._state(arm)
        held: Sequence[Tensor] = [
            *model.parameters(),
            *model.buffers(),
            *(x for s in optimizer.state.values() for x in s.values() if isinstance(x, Tensor)),
            *self.batch[1].values(),
        ]
        return sum(x.numel() * x.element_size() for x in held)
