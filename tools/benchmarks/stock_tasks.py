# SPDX-License-Identifier: Apache-2.0
"""Step time of a soup under ESPnet's ASR task, as a ratio to ESPnet's own trainer.

    OMP_NUM_THREADS=1 python tools/benchmarks/stock_tasks.py [--blocks 6] [--batch 12]

Both trainers run the same batches on the same model (E-Branchformer, CTC and attention); arms take
turns, and the fastest round of each counts.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.train.distributed_utils import DistributedOption

from espnet_objsoup.tasks.stock import SoupASRTask, trainer_choices

ARMS: dict[str, dict[str, Any] | None] = {
    "espnet": None,
    "static": {},
    "flat, last 2 layers, every 2nd step": {"recipe": "flat"},
    "flat, last 2 layers, every step": {"recipe": "flat", "weights_interval": 1},
    "flat, all layers, every step": {"recipe": "flat", "weights_interval": 1, "policy": "all"},
    "the same, gradient_engine: reference": {
        "recipe": "flat",
        "weights_interval": 1,
        "policy": "all",
        "gradient_engine": "reference",
    },
}


class Batches(AbsIterFactory):
    """The same random batches in every epoch."""

    def __init__(self, count: int, size: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.batches = []
        for _ in range(count):
            lengths = torch.randint(250, 500, (size,), generator=generator)
            speech = torch.randn(size, int(lengths.max()), 80, generator=generator)
            n_tokens = torch.randint(15, 40, (size,), generator=generator)
            text = torch.randint(2, 499, (size, int(n_tokens.max())), generator=generator)
            text[torch.arange(text.size(1)) >= n_tokens[:, None]] = -1
            batch = {"speech": speech, "speech_lengths": lengths}
            batch |= {"text": text, "text_lengths": n_tokens}
            self.batches.append(([f"u{i}" for i in range(size)], batch))

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> list:
        """Copies, since models change texts in place."""
        return [(ids, {k: v.clone() for k, v in batch.items()}) for ids, batch in self.batches]


def configuration(blocks: int, conf: dict[str, Any] | None) -> dict[str, Any]:
    """A YAML; `policy` of an arm is that of its layers."""
    soup = dict(conf or {})
    policy = soup.pop("policy", "last_k")
    if soup.get("recipe") == "flat":
        soup["layers"] = {"policy": policy}
    size = {"attention_heads": 4, "linear_units": 576}
    encoder = {"output_size": 144, "num_blocks": blocks, "cgmlp_linear_units": 576}
    return {
        "input_size": 80,
        "encoder": "e_branchformer",
        "encoder_conf": {**size, **encoder},
        "decoder": "transformer",
        "decoder_conf": {**size, "num_blocks": 3},
        "model_conf": {"ctc_weight": 0.3, "report_cer": False, "report_wer": False},
        "token_list": ["<blank>", *map(str, range(498)), "<sos/eos>"],
        "optim": "adam",
        "max_epoch": 1,
        "use_tensorboard": False,
        "use_matplotlib": False,
        "num_att_plot": 0,
        "trainer": "default" if conf is None else "objsoup",
        "trainer_conf": soup,
    }


def seconds(blocks: int, conf: dict[str, Any] | None, data: Batches, directory: Path) -> float:
    """Mean step time of one epoch, without validation."""
    path = directory / "conf.yaml"
    path.write_text(yaml.safe_dump(configuration(blocks, conf)))
    words = ["--config", str(path), "--output_dir", str(directory)]
    args = SoupASRTask.get_parser().parse_args(words)
    torch.manual_seed(1)
    model = SoupASRTask.build_model(args)
    trainer = trainer_choices.get_class(args.trainer)
    times: list[float] = []
    original = trainer.train_one_epoch.__func__

    class Timed(trainer):
        @classmethod
        def train_one_epoch(cls, *positional: Any, **keywords: Any) -> bool:
            start = time.perf_counter()
            result = original(cls, *positional, **keywords)
            times.append(time.perf_counter() - start)
            return result

    option = DistributedOption()
    option.init_options()
    Timed.run(
        model=model,
        optimizers=[torch.optim.Adam(model.parameters(), 1e-4)],
        schedulers=[None],
        train_iter_factory=data,
        valid_iter_factory=Batches(1, 2),
        plot_attention_iter_factory=None,
        trainer_options=Timed.build_options(args),
        distributed_option=option,
    )
    return times[0] / len(data.batches)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    data = Batches(args.steps, args.batch)
    best = dict.fromkeys(ARMS, float("inf"))
    for _ in range(args.rounds):
        for name, conf in ARMS.items():
            with tempfile.TemporaryDirectory() as directory:
                best[name] = min(best[name], seconds(args.blocks, conf, data, Path(directory)))
    for name, value in best.items():
        print(f"{name:45} {value:7.3f} s  {value / best['espnet']:5.2f}")


if __name__ == "__main__":
    main()
