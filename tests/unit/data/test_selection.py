# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from pathlib import Path

import pytest

from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
from espnet_objsoup.data.datadir import DataDir, DataDirError
from espnet_objsoup.data.selection import Selection, filter_utterances, perturb_speed, select

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
    with pytest.raises(DataDirError, match=r"found none \(3 are shorter"):
        filter_utterances(data, 5.0, 20.0, 16000, Path("d"))


def test_filter_needs_lengths() -> None:
    with pytest.raises(DataDirError, match="stage 3"):
        filter_utterances(make_data(), 0.1, 20.0, 16000, Path("d"))


def test_filter_keeps_unlabelled_on_demand() -> None:
    data = make_data()
    data.columns["utt2num_samples"] = dict.fromkeys(data.utterances, "16000")
    data.columns["text"]["en-c-u3"] = "<na>"
    kept, report = filter_utterances(data, 0.1, 20.0, 16000, Path("d"), keep_unlabelled=True)
    assert kept.columns == data.columns
    assert (report.kept, report.without_label, report.kept_s) == (3, 0, 3.0)


def many() -> DataDir:
    """Ten French utterances of two speakers and five English ones of a third; ids give lengths."""
    rows = [
        Utterance(f"u{i:02d}", f"{lang}-{i % n}", f"{i}.wav", lang, "a")
        for lang, n, number in (("fr", 2, 10), ("en", 1, 5))
        for i in range(number)
    ]
    data = to_data_dir(rows)
    data.columns["utt2num_samples"] = {u: str(100 - int(u[-2:])) for u in data.utterances}
    return data


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(2, "first"), ["en-0-u00", "en-0-u01"]),
        (Selection(2, "last"), ["fr-1-u07", "fr-1-u09"]),
        (Selection(2, "shortest"), ["fr-0-u08", "fr-1-u09"]),
        (Selection(1, "first", per="lang"), ["en-0-u00", "fr-0-u00"]),
        (Selection(1, "last", per="spk"), ["en-0-u04", "fr-0-u08", "fr-1-u09"]),
        (
            Selection(speakers={"fr-1"}, langs=["fr", "en"]),
            [f"fr-1-u{i:02d}" for i in range(1, 10, 2)],
        ),
        (Selection(utterances={"fr-0-u00", "en-0-u01", "none"}), ["en-0-u01", "fr-0-u00"]),
    ],
)
def test_selected_utterances(selection: Selection, expected: list[str]) -> None:
    assert select(many(), selection, Path("d")).utterances == expected


def test_random_choice_depends_on_the_seed_only() -> None:
    first, again, other = (
        select(many(), Selection(5, seed=seed), Path("d")).utterances for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == 5
    each = select(many(), Selection(7, per="lang"), Path("d"))
    assert Counter(each.columns["utt2lang"].values()) == {"fr": 7, "en": 5}


def test_too_much_or_nothing_is_refused() -> None:
    with pytest.raises(DataDirError, match=r"at least 16 utterances .* found 15; ask for fewer"):
        select(many(), Selection(16), Path("d"))
    with pytest.raises(DataDirError, match="found none; check --langs"):
        select(many(), Selection(langs=["de"]), Path("d"))
    with pytest.raises(DataDirError, match="utt2num_samples not found"):
        select(make_data(), Selection(1, "shortest"), Path("d"))


def test_perturbing_again_multiplies_and_forgets_lengths() -> None:
    data = make_data()
    data.columns["utt2num_samples"] = dict.fromkeys(data.utterances, "16000")
    twice = perturb_speed(perturb_speed(data, [0.9, 1.0]), [1.1])
    speeds = twice.columns["utt2speed"]
    assert (speeds["sp1.1-sp0.9-en-c-u3"], speeds["sp1.1-en-c-u3"]) == ("0.99", "1.1")
    assert twice.columns["utt2spk"]["sp1.1-sp0.9-en-c-u3"] == "sp1.1-sp0.9-en-c"
    assert "utt2num_samples" not in twice.columns


@pytest.mark.parametrize(
    "factors", [[0.9, 0.9], [0.9, 0.9000001], [1.0, 1.0000001], [0.1], [3.0], [], [float("nan")]]
)
def test_bad_factors_are_refused(factors: list[float]) -> None:
    with pytest.raises(ValueError, match="distinct factors"):
        perturb_speed(make_data(), factors)


@pytest.mark.parametrize("segmented", [False, True])
def test_copies_that_would_share_an_id_are_refused(segmented: bool) -> None:
    data = to_data_dir([Utterance(u, "s", "a.wav", "en", "a") for u in ("x", "y", "z")])
    data.columns = {
        name: {k.replace("s-y", "sp0.9-s-x"): v for k, v in column.items()}
        for name, column in data.columns.items()
    }
    if segmented:
        data.columns["segments"] = {"sp0.9-s-x": "r 0 1", "s-x": "r 0 1", "s-z": "sp0.9-r 0 1"}
        data.columns["wav.scp"] = {"r": "r.wav", "sp0.9-r": "s.wav"}
    message = r"utt2spk: expected distinct ids .* found 1 that .*such as sp0.9-s-x\); perturb the"
    if segmented:
        message += r"(?s:.*)wav.scp: expected distinct ids .*such as sp0.9-r\)"
    with pytest.raises(DataDirError, match=message):
        perturb_speed(data, [0.9, 1.0])
    # Without the copy at speed 1 nothing is shared.
    assert len(perturb_speed(data, [0.9, 1.1]).utterances) == 6
