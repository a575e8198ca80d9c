# SPDX-License-Identifier: Apache-2.0
"""`model_conf` of ObjSoupTask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from espnet_objsoup.objectives import resolve_weights


@dataclass(frozen=True)
class ModelOptions:
    """Options of the heads and of the fixed sum that ESPnet's own trainer minimises."""

    asr_ctc_weight: float = field(
        default=0.3, metadata={"help": "weight of CTC against attention in the ASR head"}
    )
    st_ctc_weight: float = field(
        default=0.0, metadata={"help": "weight of CTC against attention in the ST head"}
    )
    label_smoothing: float = field(default=0.1, metadata={"help": "of the attention losses"})
    shared_decoder: bool = field(
        default=False, metadata={"help": "one decoder (st_decoder) for both tasks"}
    )
    loss_mode: str = field(
        default="token",
        metadata={"help": "token: losses per target token; espnet: sums per utterance"},
    )
    objective_weights: Mapping[str, float] = field(
        default_factory=dict,
        metadata={"help": "weights in `loss` by objective or glob, such as {'asr/*': 0.3}"},
    )

    @classmethod
    def from_dict(cls, conf: Mapping[str, Any]) -> "ModelOptions":
        """Options of a YAML block.

        Raises:
            ValueError: for unknown keys, with the known ones.
        """
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(conf) - set(known))
        if unknown:
            raise ValueError(
                f"model_conf: unknown key {', '.join(unknown)}; known keys: {', '.join(known)}"
            )
        return cls(**conf)

    @classmethod
    def help(cls) -> str:
        """One line for `--help`."""
        return "; ".join(f"{f.name} ({f.metadata['help']})" for f in fields(cls))

    def resolve_weights(self, objectives: Sequence[str]) -> dict[str, float]:
        """Weight of every objective, 1 where `objective_weights` is empty."""
        if not self.objective_weights:
            return dict.fromkeys(objectives, 1.0)
        return resolve_weights(self.objective_weights, objectives)
