# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.selection import filter_utterances, perturb_speed

from .factory import make_data


def test_filter_counts_every_reason() -> None:
    data = make_data()
    data.columns["utt2num_samples"] = {"en-c-u3": "16000", "fr-a-u1": "100", "fr-b-u2": "999999"}
    kept, report = filter_utterances(data, 0.1, 20.0, 16000, Path("d"))
    assert kept.utterances == ["en-c-u3"]
    assert (report.kept, report.too_short, report.too_long, report.without_label) == (1, 1, 1, 0)


def test_filter_drops_unlabelled_and_refuses_an_empty_result() -> None:
    data = make_data()
    data.columns["utt2num_samples"] = dict.fromkeys(data.utterances, "16000")
    data.columns["text"]["en-c-u3"] = "<na>"
    kept, report = filter_utterances(data, 0.1, 20.0, 16000, Path("d"))
    assert report.without_label == 1
    assert "en-c-u3" not in kept.utterances
    with pytest.raises(DataDirError, match="no utterance lasts"):
        filter_utterances(data, 5.0, 20.0, 16000, Path("d"))


def test_filter_needs_lengths() -> None:
    with pytest.raises(DataDirError, match="stage 3"):
        filter_utterances(make_data(), 0.1, 20.0, 16000, Path("d"))


@pytest.mark.parametrize("factors", [[0.9, 0.9], [0.1], [3.0]])
def test_bad_factors_are_refused(factors: list[float]) -> None:
    with pytest.raises(ValueError, match="distinct factors"):
        perturb_speed(make_data(), factors)
