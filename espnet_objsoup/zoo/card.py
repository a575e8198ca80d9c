# SPDX-License-Identifier: Apache-2.0
"""The model card: what a stranger has to know, and nothing that is not known."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from espnet_objsoup.zoo.card_metadata import metadata
from espnet_objsoup.zoo.card_tables import (
    UNKNOWN,
    data_rows,
    language_rows,
    markdown,
    score_rows,
    soup_rows,
    soup_summary,
)
from espnet_objsoup.zoo.facts import ModelFacts
from espnet_objsoup.zoo.meta import Meta

_CITATION = """```bibtex
@inproceedings{saif2025objectivesoups,
  title={Objective Soups: Multilingual Multi-Task Modeling for Speech Processing},
  author={Saif and Chen and Cui and Lu and Kingsbury and Chen},
  booktitle={Advances in Neural Information Processing Systems},
  year={2025},
  note={arXiv:2508.09228}
}
@inproceedings{watanabe2018espnet,
  title={{ESPnet}: End-to-End Speech Processing Toolkit},
  author={Shinji Watanabe and Takaaki Hori and Shigeki Karita and Tomoki Hayashi and
          Jiro Nishitoba and Yuya Unno and Nelson {Enrique Yalta Soplin} and Jahn Heymann and
          Matthew Wiesner and Nanxin Chen and Adithya Renduchintala and Tsubasa Ochiai},
  booktitle={Proceedings of Interspeech},
  pages={2207--2211},
  year={2018},
  doi={10.21437/Interspeech.2018-1456}
}
```"""


@dataclass(frozen=True)
class Card:
    """What a card is made of.

    Attributes:
        facts: of the model.
        meta: its description.
        hf_repo: `user/name`, None if it is not known where the model will be.
        archive: name of the zip.
        scores: set -> `asr/fr` -> measures; empty if it was not scored.
        options: of the search; None if not known.
        base: directory of the experiment's files in the archive.
    """

    facts: ModelFacts
    meta: Meta
    hf_repo: str | None
    archive: str
    scores: Mapping[str, Any]
    options: Mapping[str, Any] | None
    base: str

    @property
    def source(self) -> str:
        """Where a reader loads the model from."""
        return self.hf_repo or self.archive


def render_card(card: Card) -> bytes:
    """README.md of a model."""
    parts = [
        f"---\n{metadata(card.facts, card.scores).strip()}\n---",
        f"# {(card.hf_repo or card.facts.name).rpartition('/')[2]}",
        _summary(card.facts),
        *_use(card),
        "## Languages",
        markdown(language_rows(card.facts)),
        *_data(card.facts),
        *_training(card.facts),
        *_scores(card),
        *_limits(card.facts),
        *_license(card.facts),
        "## Citation",
        _CITATION,
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _summary(facts: ModelFacts) -> str:
    does = []
    if facts.languages:
        does.append(f"recognises speech in {', '.join(facts.languages)}")
    if facts.pairs:
        pairs = ", ".join(f"{source} to {target}" for source, target in facts.pairs)
        does.append(f"translates speech into text ({pairs})")
    size = "" if facts.parameters is None else f" with {facts.parameters / 1e6:.1f} million numbers"
    return (
        f"One encoder{size} that {' and '.join(does) or 'was trained by self-supervision'}. "
        "Trained by espnet_objsoup, an extension of "
        "[ESPnet](https://github.com/espnet/espnet) for models of many objectives."
    )


def _use(card: Card) -> Iterator[str]:
    facts = card.facts
    yield "## Use"
    needs = f"espnet_objsoup {card.meta.version} (ESPnet {card.meta.espnet})"
    yield (
        f"Needs {needs}:\n\n```sh\n{card.meta.install}\n```\n\n"
        "Where the package index that you use does not have it, `pip install .` in a copy of its "
        "source does the same."
    )
    lines = [
        "from espnet_objsoup.inference import Speech2Text",
        "",
        f'speech2text = Speech2Text.from_pretrained("{card.source}")',
    ]
    commands = []
    if facts.languages:
        lang = facts.languages[0]
        lines.append(f'print(speech2text("clip.wav", task="asr", lang="{lang}")[0].text)')
        commands.append(f"objsoup transcribe --model {card.source} --lang {lang} clip.wav")
    if facts.pairs:
        lang, target = facts.pairs[0]
        lines.append(
            f'print(speech2text("clip.wav", task="st", lang="{lang}", target_lang="{target}")'
            "[0].text)"
        )
        commands.append(
            f"objsoup translate --model {card.source} --lang {lang} --target_lang {target} clip.wav"
        )
    yield "```python\n" + "\n".join(lines) + "\n```"
    yield "```sh\n" + "\n".join([*commands, f"objsoup info {card.source}"]) + "\n```"
    if card.options is not None:
        shown = ", ".join(f"{key} {value}" for key, value in sorted(card.options.items()))
        yield f"Both search as for the scores below: {shown}."


def _data(facts: ModelFacts) -> Iterator[str]:
    yield "## Data"
    corpus = facts.corpus or (f"The data of recipe `{facts.recipe}`" if facts.recipe else None)
    sentences = [f"{corpus}." if corpus else f"Training corpora: {UNKNOWN}."]
    if facts.recipe == "mini_objsoup":
        sentences = [
            f"{facts.corpus or 'The mini corpus of espnet_objsoup'}: synthetic speech by eSpeak NG "
            "of sentences from a grammar. The model is of no use for real speech."
        ]
    data = facts.training_data
    if data is None:
        sentences.append(f"Amount of training data: {UNKNOWN}.")
    elif data.get("hours") is not None:
        sentences.append(f"{data['hours']:g} hours of audio, labelled utterances per objective:")
    else:
        sentences.append("Labelled training utterances per objective:")
    yield " ".join(sentences)
    rows = data_rows(facts)
    if len(rows) > 1:
        yield markdown(rows)


def _training(facts: ModelFacts) -> Iterator[str]:
    yield "## Training"
    seed = "" if facts.seed is None else f" Seed {facts.seed}."
    yield (
        f"Recipe of the objectives: {soup_summary(facts)}.{seed} Vocabulary: "
        f"{facts.vocabulary or UNKNOWN} tokens, type {facts.token_type or UNKNOWN}."
    )
    rows = soup_rows(facts)
    if len(rows) > 1:
        yield markdown(rows)
        yield (
            "The encoder's gradient is the sum over levels of coefficient times the weighted sum "
            f"of the level's gradients. Values at the end of training ({facts.soup.get('source')})."
        )


def _scores(card: Card) -> Iterator[str]:
    yield "## Scores"
    if not card.scores:
        yield "The model was not scored."
        return
    for split, of_split in card.scores.items():
        yield f"### {split}"
        for task in ("asr", "st"):
            rows = score_rows(of_split, task)
            if len(rows) > 1:
                yield markdown(rows)
    yield (
        "In percent; `asr_ctc` is the best path of CTC alone. Numbers of utterances, versions, "
        f"signatures of BLEU and the command are in [RESULTS.md]({card.base}/RESULTS.md)."
    )


def _limits(facts: ModelFacts) -> Iterator[str]:
    yield "## Limits"
    rate = f"{facts.sample_rate_hz} Hz" if facts.sample_rate_hz else "the rate of the training data"
    yield (
        "- Languages and pairs that are not in the table were not trained; what comes out for them "
        "is a guess. So is a language that the model chooses itself.\n"
        f"- Audio is used at {rate}; other rates are converted.\n"
        "- How it does on other recordings, speakers, accents and noise than those of the scores, "
        "and whether it serves groups of speakers equally well, was not measured.\n"
        "- It can invent words, above all in noise and silence. Do not use it where an error does "
        "harm without somebody who checks."
    )


def _license(facts: ModelFacts) -> Iterator[str]:
    yield "## Licence"
    if facts.license:
        yield (
            f"`{facts.license}`, as stated by whoever packed the model. The terms of the training "
            "data may ask for more."
        )
    else:
        yield "None was stated: ask the owner before you use the model for more than looking at it."
