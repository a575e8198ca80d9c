# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_objsoup.models.objective_table import ObjectiveTable

OBJECTIVES = ("asr/de", "asr/fr", "st/fr-en")
LANGUAGES = ["de", "en", "fr"]


def make_batch(rows: list[tuple[str | None, str | None, int, int]]) -> dict[str, torch.Tensor]:
    """Rows of (language, target language, transcript length, translation length)."""
    index = {None: -1, **{code: i for i, code in enumerate(LANGUAGES)}}
    return {
        "lang": torch.tensor([[index[row[0]]] for row in rows]),
        "tgt_lang": torch.tensor([[index[row[1]]] for row in rows]),
        "text_lengths": torch.tensor([row[2] for row in rows]),
        "st_text_lengths": torch.tensor([row[3] for row in rows]),
    }


def test_rows_without_label_language_or_objective_belong_to_nothing() -> None:
    table = ObjectiveTable(OBJECTIVES, LANGUAGES, {})
    batch = make_batch(
        [
            ("fr", "en", 3, 4),
            ("fr", "en", 3, 0),  # no translation
            ("de", None, 0, 0),  # no transcript
            ("en", None, 2, 0),  # no objective for this language
            (None, None, 2, 0),  # no language
            ("de", "en", 2, 2),  # no objective for this pair
        ]
    )
    index = table.index(batch)
    assert index["asr"].tolist() == [1, 1, -1, -1, -1, 0]
    assert index["st"].tolist() == [2, -1, -1, -1, -1, -1]


def test_means_and_counts_per_objective() -> None:
    table = ObjectiveTable(OBJECTIVES, LANGUAGES, {})
    batch = make_batch([("fr", "en", 1, 1), ("fr", None, 1, 0), ("en", None, 1, 0)])
    values = {"asr": torch.tensor([1.0, 3.0, 50.0]), "st": torch.tensor([7.0, 90.0, 90.0])}
    means, counts = table.reduce(values, table.index(batch))
    assert means.tolist() == [0.0, 2.0, 7.0]
    assert counts.tolist() == [0, 2, 1]


def test_data_without_translations_need_no_target_language() -> None:
    table = ObjectiveTable(("asr/de",), ["de"], {})
    batch = {"lang": torch.tensor([[0]]), "text_lengths": torch.tensor([2])}
    index = table.index(batch)
    assert index["asr"].tolist() == [0]
    assert index["st"].tolist() == [-1]


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ((), "at least one"),
        (("asr/de", "asr/de"), "distinct"),
        (("asr/xx",), "objective asr/xx"),
        (("asr/de-en",), "asr/<lang>"),
        (("st/de",), "st/<src>-<tgt>"),
    ],
)
def test_bad_objectives_are_refused(objectives: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveTable(objectives, LANGUAGES, {})
