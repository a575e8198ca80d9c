# SPDX-License-Identifier: Apache-2.0
"""Multilingual recognition and translation with one shared encoder.

Shapes use B utterances, N samples, T frames, L tokens, F front-end and D encoder features, K
objectives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.preencoder.abs_preencoder import AbsPreEncoder
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from espnet2.layers.abs_normalize import AbsNormalize
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import Tensor, nn

from espnet_objsoup.models.batch_statistics import batch_statistics
from espnet_objsoup.models.feature_lengths import feature_lengths
from espnet_objsoup.models.gradient_scale import GradientScale, scale_gradient
from espnet_objsoup.models.objective_table import ObjectiveTable
from espnet_objsoup.models.ssl import AbsSSLHead
from espnet_objsoup.models.task_head import HeadOutput, TaskHead

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class HeadInput:
    """What an encoder pass gives the head of a task.

    Attributes:
        h: (B, T, D) encoder output.
        lengths: (B,) frames.
        context: of `ssl`: what is to be predicted; never seen by the encoder.
    """

    h: Tensor
    lengths: Tensor
    context: Any = None


class ESPnetObjSoupModel(AbsESPnetModel):
    """Shared encoder, one head for recognition and one for translation, one without labels.

    A batch holds
        speech (B, N) float, speech_lengths (B,);
        text (B, L) transcript ids padded with -1, text_lengths (B,), 0 = no transcript;
        st_text (B, L) translation ids likewise, st_text_lengths (B,), 0 = no translation;
        lang (B, 1) spoken language and tgt_lang (B, 1) language of the translation, as indices
        into `languages`, -1 = none.
    Keys of a task that is not in the data may be missing. Utterances with neither label take part
    in `ssl` only.

    Args:
        token_list: tokens, `<blank>` first and `<sos/eos>` last, with a symbol `<xx>` per language.
        languages: language codes, in the order that batches index.
        objectives: objective names such as `asr/fr`, `st/fr-en` and `ssl`.
        frontend, specaug, normalize, preencoder: ESPnet modules or None.
        encoder: ESPnet encoder; its output is shared by all objectives.
        asr_head, st_head: heads, or None where no objective needs one.
        objective_weights: objective -> weight in `loss`, which is what ESPnet's own trainer
            minimises and what validation reports (1 where not given).
        ssl_head: self-supervised head; given if and only if `ssl` is an objective.

    Raises:
        ValueError: if objectives, token list and heads contradict each other.
    """

    def __init__(
        self,
        token_list: Sequence[str],
        languages: Sequence[str],
        objectives: Sequence[str],
        frontend: AbsFrontend | None,
        specaug: AbsSpecAug | None,
        normalize: AbsNormalize | None,
        preencoder: AbsPreEncoder | None,
        encoder: AbsEncoder,
        asr_head: TaskHead | None,
        st_head: TaskHead | None,
        objective_weights: Mapping[str, float] | None = None,
        ssl_head: AbsSSLHead | None = None,
    ) -> None:
        super().__init__()
        self.token_list = list(token_list)
        self.languages = list(languages)
        self.blank_id = 0
        self.ignore_id = -1
        self.sos = self.eos = len(self.token_list) - 1
        self.frontend = frontend
        self.specaug = specaug
        self.normalize = normalize
        self.preencoder = preencoder
        self.encoder = encoder
        self.asr_head = asr_head
        self.st_head = st_head
        self.ssl_head = ssl_head
        # Set by a trainer that weights objectives where the encoder ends.
        self.gradient_scale: GradientScale | None = None
        self.table = ObjectiveTable(objectives, self.languages, objective_weights or {})
        if (ssl_head is not None) != (self.table.ssl_index is not None):
            raise ValueError(
                f"expected an ssl_head if and only if ssl is an objective, found "
                f"{'one' if ssl_head is not None else 'none'} and objectives {list(objectives)}"
            )
        self._register_language_symbols()

    def _register_language_symbols(self) -> None:
        index = {token: i for i, token in enumerate(self.token_list)}
        missing = [lang for lang in self.languages if f"<{lang}>" not in index]
        if missing:
            raise ValueError(
                f"token list: expected a symbol for every language, found none for "
                f"{', '.join(f'<{lang}>' for lang in missing)}; make the token list again from "
                f"data directories that hold these languages (stage 5)"
            )
        ids = torch.tensor([index[f"<{lang}>"] for lang in self.languages], dtype=torch.long)
        self.register_buffer("language_token_ids", ids, persistent=False)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives, in the order of every per-objective result."""
        return self.table.objectives

    @property
    def loss_mode(self) -> str:
        """`token` or `espnet`: how the heads normalise their losses."""
        return next((head.loss_mode for head in self.heads.values()), "token")

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters before the heads: those on which objectives can conflict."""
        modules = [*self.heads.values(), *([] if self.ssl_head is None else [self.ssl_head])]
        heads = {id(p) for head in modules for p in head.parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in heads]

    @property
    def objectives_of_head(self) -> dict[str, int]:
        """Objective -> number of objectives whose gradients its head averages.

        A decoder shared by both tasks makes one head of them.
        """
        tasks = {name: name.split("/")[0] for name in self.objectives}
        decoders = {task: id(head.decoder) for task, head in self.heads.items() if head.decoder}
        if len(decoders) > 1 and len(set(decoders.values())) == 1:
            tasks = {name: "shared" if task in decoders else task for name, task in tasks.items()}
        members = list(tasks.values())
        return {name: members.count(task) for name, task in tasks.items()}

    @property
    def heads(self) -> dict[str, TaskHead]:
        """Supervised heads that exist, by task."""
        heads = {"asr": self.asr_head, "st": self.st_head}
        return {task: head for task, head in heads.items() if head is not None}

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Shared part: waveform to encoder output.

        Returns:
            h (B, T, D) and its lengths (B,) in frames.
        """
        return self.encode_features(*self.features(batch))

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Front-end features (B, T, F) before normalisation, and their lengths (B,)."""
        return self._features(batch["speech"], batch["speech_lengths"])

    def encode_features(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder output for the supervised heads; may change `features` in place.

        Args:
            features, lengths: of `features`.

        Returns:
            h (B, T, D) and its lengths (B,).
        """
        if self.specaug is not None and self.training:
            features, lengths = self.specaug(features, lengths)
        return self._encode_augmented(features, lengths)

    def encode_ssl(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Second encoder pass, on what `ssl_head` lets the encoder see; without SpecAugment.

        Args:
            features, lengths: of `features`; to be called before `encode_features`.

        Returns:
            h (B, T, D), its lengths (B,), and the context that `ssl_head.losses` needs.

        Raises:
            ValueError: if the model has no self-supervised objective.
        """
        if self.ssl_head is None:
            raise ValueError(
                f"expected a self-supervised objective, found objectives "
                f"{', '.join(self.objectives)}; set ssl: cpc or ssl: best_rq in the configuration"
            )
        inputs = self.ssl_head.prepare(features, lengths)
        h, lengths = self._encode_augmented(inputs.features, inputs.lengths)
        return h, lengths, inputs.context

    def _encode_augmented(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if self.normalize is not None:
            features, lengths = self.normalize(features, lengths)
        if self.preencoder is not None:
            features, lengths = self.preencoder(features, lengths)
        h, lengths, _ = self.encoder(features, lengths)
        return h, lengths

    def _features(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, Tensor]:
        speech = speech[:, : int(speech_lengths.max())]
        if self.frontend is None:
            return speech, speech_lengths
        # As in ESPnet's models: the power spectrum does not fit into half precision.
        with torch.autocast(speech.device.type, enabled=False):
            return self.frontend(speech, speech_lengths)

    def prompt(self, task: str, lang: str, target_lang: str | None = None) -> list[int]:
        """Token ids that start the decoder: `<sos/eos> <lang>`, for ST also `<target_lang>`.

        Raises:
            ValueError: for a language or task that the model does not know.
        """
        if task not in ("asr", "st"):
            raise ValueError(f"task: expected 'asr' or 'st', found {task!r}")
        wanted = [lang] if task == "asr" else [lang, target_lang]
        for language in wanted:
            if language not in self.languages:
                raise ValueError(
                    f"language: expected one of {', '.join(self.languages)}, found {language!r}"
                )
        ids = [int(self.language_token_ids[self.languages.index(name)]) for name in wanted]
        return [self.sos, *ids]

    def _prompts(self, task: str, batch: Batch, rows: Tensor) -> Tensor:
        names = ("lang",) if task == "asr" else ("lang", "tgt_lang")
        columns = [self.language_token_ids[batch[name][rows, 0]] for name in names]
        return torch.stack([torch.full_like(columns[0], self.sos), *columns], dim=1)

    def objective_index(self, batch: Batch) -> dict[str, Tensor]:
        """Per task (B,) index into `objectives`, known before any pass.

        Returns:
            -1 where the utterance has no label for `asr` or `st`, or is too short for `ssl`.
        """
        if self.ssl_head is None:
            return self.table.index(batch)
        lengths = feature_lengths(self.frontend, batch["speech"], batch["speech_lengths"])
        return self.table.index(batch, self.ssl_head.usable(lengths))

    def label_masks(self, batch: Batch) -> dict[str, Tensor]:
        """Per task (B,) bool: the utterance takes part in an objective."""
        return {task: index >= 0 for task, index in self.objective_index(batch).items()}

    def head_outputs(self, h: Tensor, lengths: Tensor, batch: Batch) -> dict[str, HeadOutput]:
        """Outputs of every supervised head, rows without a label being zero."""
        return self._supervised_outputs(dict.fromkeys(self.heads, HeadInput(h, lengths)), batch)

    def _supervised_outputs(
        self, inputs: Mapping[str, HeadInput], batch: Batch
    ) -> dict[str, HeadOutput]:
        index = self.table.index(batch)
        return {
            task: self._head_output(task, inputs[task], batch, index[task] >= 0)
            for task in self.heads
        }

    def _head_output(
        self, task: str, head_input: HeadInput, batch: Batch, mask: Tensor
    ) -> HeadOutput:
        head, h, lengths = self.heads[task], head_input.h, head_input.lengths
        rows = mask.nonzero()[:, 0]
        if len(rows) == 0:
            empty = HeadOutput.empty(h)
            if not torch.is_grad_enabled():
                return empty
            # The encoder too: no other task may have a label in this process's batch.
            linked = empty.losses + head.zero_loss() + h.reshape(-1)[0] * 0.0
            return HeadOutput(linked, empty.correct_tokens, empty.target_tokens, mask)
        name = "text" if task == "asr" else "st_text"
        target_lengths = batch[f"{name}_lengths"][rows]
        targets = batch[name][rows, : int(target_lengths.max())]
        prompts = self._prompts(task, batch, rows)
        selected = head(h[rows], lengths[rows], prompts, targets, target_lengths)
        return selected.scatter(rows, h.size(0))

    def head_losses(self, h: Tensor, lengths: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Per supervised task the loss of each utterance.

        Args:
            h: (B, T, D) output of `encode`.
            lengths: (B,) frames.
            batch: the batch that `encode` was given.

        Returns:
            task -> (B,) losses, zero in rows that `label_masks` excludes.
        """
        return {task: out.losses for task, out in self.head_outputs(h, lengths, batch).items()}

    def forward(self, **batch: Tensor) -> dict[str, Tensor | dict[str, Tensor]]:
        """One batch, as ESPnet's trainers call it.

        Returns:
            `loss` (1,): sum over tasks and utterances of weight times loss, divided by B; the mean
            of this over a data set does not depend on how it is cut into batches.
            `stats`: loss and token accuracy per task and objective, NaN where absent.
            `weight` (1,): B.
            `losses`, `counts`: objective -> mean loss over its utterances (0 if absent) and number
            of its utterances, for every objective in a fixed order.
            `utterance_losses`, `objective_index`: task -> (B,) losses and objectives (-1: none).
        """
        inputs = self.task_inputs(batch)
        if self.gradient_scale is not None:
            index = self.objective_index(batch)
            inputs = {
                task: replace(
                    of_task, h=scale_gradient(of_task.h, index[task], self.gradient_scale)
                )
                for task, of_task in inputs.items()
            }
        return self.batch_result(self.task_outputs(inputs, batch), batch)

    def task_inputs(self, batch: Batch) -> dict[str, HeadInput]:
        """Encoder passes: what the head of every task gets, `asr` and `st` the same.

        A caller may put nodes between these and `task_outputs`; each has B rows.
        """
        features, n_frames = self.features(batch)
        ssl = None
        if self.ssl_head is not None:
            # Before the supervised pass, which normalises the features in place.
            ssl = HeadInput(*self.encode_ssl(features, n_frames))
        inputs = {}
        if self.heads:
            supervised = HeadInput(*self.encode_features(features, n_frames))
            inputs = dict.fromkeys(self.heads, supervised)
        return inputs if ssl is None else {**inputs, "ssl": ssl}

    def task_outputs(self, inputs: Mapping[str, HeadInput], batch: Batch) -> dict[str, HeadOutput]:
        """Outputs of all heads for what `task_inputs` returned; rows that do not count are zero."""
        outputs = self._supervised_outputs(inputs, batch)
        if self.ssl_head is not None:
            ssl = inputs["ssl"]
            outputs["ssl"] = self.ssl_head.outputs(ssl.h, ssl.lengths, ssl.context)
        return outputs

    def batch_result(
        self, outputs: Mapping[str, HeadOutput], batch: Batch
    ) -> dict[str, Tensor | dict[str, Tensor]]:
        """Reduce the heads' outputs to what `forward` returns."""
        index = self.objective_index(batch)
        batch_size = batch["speech"].size(0)
        losses, counts = self.table.reduce({t: o.losses for t, o in outputs.items()}, index)
        total = (losses * counts * self.table.weights).sum() / batch_size
        stats = batch_statistics(self.table, self.heads, outputs, index)
        stats["loss"] = total.detach()
        loss, stats, weight = force_gatherable((total, stats, batch_size), total.device)
        return {
            "loss": loss,
            "stats": stats,
            "weight": weight,
            "losses": dict(zip(self.objectives, losses.unbind(), strict=True)),
            "counts": dict(zip(self.objectives, counts.unbind(), strict=True)),
            "utterance_losses": {task: output.losses for task, output in outputs.items()},
            "objective_index": {task: index[task] for task in outputs},
        }

    def collect_feats(
        self, speech: Tensor, speech_lengths: Tensor, **_: Tensor
    ) -> dict[str, Tensor]:
        """Features whose statistics `global_mvn` uses (stage 10)."""
        features, lengths = self._features(speech, speech_lengths)
        return {"feats": features, "feats_lengths": lengths}
