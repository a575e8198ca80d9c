# SPDX-License-Identifier: Apache-2.0
"""Which objectives ESPnet's own models have, and which of their options leave none to weigh."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.s2t.espnet_model import ESPnetS2TModel
from espnet2.st.espnet_model import ESPnetSTModel
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import Tensor

# Everything before the heads; the models lack or set to None what they do not use.
SHARED_MODULES = (
    "frontend", "specaug", "normalize", "preencoder", "encoder", "hier_encoder", "postencoder"
)  # fmt: skip
MT = "mt/att"


class StockModelError(ValueError):
    """The objectives of a stock model cannot be told apart."""


@dataclass(frozen=True)
class StockKind:
    """How one of ESPnet's models computes its losses.

    Attributes:
        methods: method -> objective whose loss it returns first. Its first three arguments are an
            encoder output (B, T, D), lengths (B,) and targets (B, L).
        weights: model -> objective -> weight in the model's own loss, of the losses in use.
        check: refuses options with which the objectives cannot be told apart.
        present: model, objective and targets -> (B,) bool, utterances that have a target.
    """

    methods: Mapping[str, str]
    weights: Callable[[AbsESPnetModel], dict[str, float]]
    check: Callable[[AbsESPnetModel], None]
    present: Callable[[AbsESPnetModel, str, Tensor], Tensor]


def stock_kind(model: AbsESPnetModel) -> StockKind:
    """How a model computes its losses.

    Raises:
        StockModelError: for another model, or one with options that rule a soup out.
    """
    kind = _KINDS.get(type(model))
    if kind is None:
        known = ", ".join(cls.__name__ for cls in _KINDS)
        raise StockModelError(
            f"model: trainer objsoup knows the objectives of {known}, found "
            f"{type(model).__name__}; use model: espnet, or trainer: default"
        )
    kind.check(model)
    return kind


def _refuse(key: str, expected: str, found: object, reason: str) -> None:
    raise StockModelError(
        f"{key}: with trainer objsoup expected {expected}, found {found}; {reason}. Change it, or "
        "use trainer: default"
    )


def _check_encoder(model: AbsESPnetModel) -> None:
    weight = getattr(model, "interctc_weight", 0.0)
    if weight != 0.0:
        _refuse(
            "model_conf.interctc_weight", "0.0", weight,
            "intermediate CTC puts a head inside the shared encoder",
        )  # fmt: skip
    for key in ("interctc_use_conditioning", "ctc_trim"):
        if getattr(model.encoder, key, False):
            _refuse(
                f"encoder_conf.{key}", "false", "true",
                "the encoder then uses the CTC head's parameters, which are no longer a head's",
            )  # fmt: skip


def _check_asr(model: ESPnetASRModel) -> None:
    _check_encoder(model)
    if model.use_linear_decoder:
        _refuse(
            "decoder", "one of attention or transducer, or none", "linear_decoder",
            "classification has a single objective",
        )  # fmt: skip
    durations = getattr(model, "transducer_multi_blank_durations", None)
    if durations:
        _refuse(
            "model_conf.transducer_multi_blank_durations", "none", durations,
            "soups have not been checked with the multi-blank loss",
        )  # fmt: skip


def _check_st(model: ESPnetSTModel) -> None:
    _check_encoder(model)
    if model.use_multidecoder:
        _refuse(
            "md_encoder", "none", type(model.md_encoder).__name__,
            "a multi-decoder translates the recognition decoder's states, so that st/att reaches "
            "the encoder through the head of asr/att",
        )  # fmt: skip
    if model.ctc_sample_rate > 0.0:
        _refuse(
            "model_conf.ctc_sample_rate", "0.0", model.ctc_sample_rate,
            "asr/att is then left out of steps at random",
        )  # fmt: skip


def _in_use(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if weight != 0.0}


def _asr_weights(model: ESPnetASRModel) -> dict[str, float]:
    if model.use_transducer_decoder:
        return _in_use({"asr/ctc": model.ctc_weight, "asr/transducer": 1.0})
    return _in_use({"asr/ctc": model.ctc_weight, "asr/att": 1.0 - model.ctc_weight})


def _s2t_weights(model: ESPnetS2TModel) -> dict[str, float]:
    return _in_use({"s2t/ctc": model.ctc_weight, "s2t/att": 1.0 - model.ctc_weight})


def _st_weights(model: ESPnetSTModel) -> dict[str, float]:
    st_weight = 1.0 - model.asr_weight - model.mt_weight
    if st_weight <= 0.0:
        _refuse(
            "model_conf.asr_weight + mt_weight", "less than 1", 1.0 - st_weight,
            "the weight of translation is what they leave",
        )  # fmt: skip
    decoder = "st/transducer" if model.st_use_transducer_decoder else "st/att"
    return _in_use(
        {
            "asr/ctc": model.asr_weight * model.mtlalpha,
            "asr/att": model.asr_weight * (1.0 - model.mtlalpha),
            "st/ctc": st_weight * model.st_mtlalpha,
            decoder: st_weight * (1.0 - model.st_mtlalpha),
            # ESPnet multiplies this loss by its weight twice.
            MT: model.mt_weight**2,
        }
    )


def _all_present(model: AbsESPnetModel, objective: str, targets: Tensor) -> Tensor:
    return torch.ones(targets.size(0), dtype=torch.bool, device=targets.device)


def _present_in_s2t(model: ESPnetS2TModel, objective: str, targets: Tensor) -> Tensor:
    if objective == "s2t/ctc":
        return (targets != model.na).all(1)
    return _all_present(model, objective, targets)


_KINDS: dict[type, StockKind] = {
    ESPnetASRModel: StockKind(
        {
            "_calc_ctc_loss": "asr/ctc",
            "_calc_att_loss": "asr/att",
            "_calc_transducer_loss": "asr/transducer",
        },
        _asr_weights,
        _check_asr,
        _all_present,
    ),
    ESPnetSTModel: StockKind(
        {
            "_calc_asr_ctc_loss": "asr/ctc",
            "_calc_asr_att_loss": "asr/att",
            "_calc_mt_ctc_loss": "st/ctc",
            "_calc_mt_att_loss": "st/att",  # `mt/att` where called with st=False
            "_calc_st_transducer_loss": "st/transducer",
        },
        _st_weights,
        _check_st,
        _all_present,
    ),
    ESPnetS2TModel: StockKind(
        {"_calc_ctc_loss": "s2t/ctc", "_calc_att_loss": "s2t/att"},
        _s2t_weights,
        _check_encoder,
        _present_in_s2t,
    ),
}
