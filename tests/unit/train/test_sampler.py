# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_objsoup.train.sampler import (
    BatchLimit,
    LanguageSampler,
    SamplerError,
    SamplerOptions,
)

from ..fuzz import fuzz, mappings, outcome, values


def make_data(sizes: dict[str, int], seed: int = 0) -> tuple[dict[str, int], dict[str, str]]:
    """Utterances of 1 to 6 s, by language."""
    draw = np.random.default_rng(seed)
    lengths, languages = {}, {}
    for lang, n in sizes.items():
        for i in range(n):
            key = f"{lang}-{i:05d}"
            lengths[key] = int(16000 * draw.uniform(1, 6))
            languages[key] = lang
    return lengths, languages


def make_sampler(sizes: dict[str, int], **changes: object) -> LanguageSampler:
    options = SamplerOptions(**changes.pop("options", {}))
    arguments = {"limit": BatchLimit(bins=1_600_000), "options": options, **changes}
    return LanguageSampler(*make_data(sizes), **arguments)


SIZES = {"ca": 40, "de": 300, "en": 900}


def language(key: str) -> str:
    return key[:2]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.dictionaries(
        st.sampled_from(["ca", "de", "en", "fr", "zh"]), st.integers(9, 150), min_size=1
    ),
    world_size=st.integers(1, 4),
    temperature=st.sampled_from([1.0, 2.0, 5.0]),
    languages_per_batch=st.sampled_from([None, 1, 2]),
    bins=st.integers(1_000_000, 4_000_000),
    multiple=st.integers(1, 3),
    seed=st.integers(0, 10_000),
)
def test_promises_for_any_data(
    sizes: dict[str, int],
    world_size: int,
    temperature: float,
    languages_per_batch: int | None,
    bins: int,
    multiple: int,
    seed: int,
) -> None:
    lengths, languages = make_data(sizes)
    samplers = [
        LanguageSampler(
            lengths,
            languages,
            BatchLimit(bins=bins),
            SamplerOptions(temperature=temperature, languages_per_batch=languages_per_batch),
            rank,
            world_size,
            multiple,
        )
        for rank in range(world_size)
    ]
    epoch = [sampler.generate(seed) for sampler in samplers]
    # Every process has the same number of batches in every epoch, a multiple of the accumulation.
    assert {len(batches) for batches in epoch} == {len(samplers[0])}
    assert len(samplers[0]) % multiple == 0
    # Every utterance at least once.
    assert {key for batches in epoch for batch in batches for key in batch} == set(lengths)
    for shares in zip(*epoch, strict=True):
        counts = [Counter(map(language, share)) for share in shares]
        # Every process sees the languages of the batch, each with two utterances or more.
        assert len({tuple(sorted(count)) for count in counts}) == 1
        assert min(n for count in counts for n in count.values()) >= 2
        if languages_per_batch is not None:
            assert len(counts[0]) <= languages_per_batch
        # No utterance meets itself where its language has enough of them.
        whole = [key for share in shares for key in share]
        for key, n in Counter(whole).items():
            assert n == 1 or sizes[language(key)] < 2 * world_size


def test_limit_of_padded_samples_holds() -> None:
    sampler = make_sampler(SIZES)
    for seed in range(20):
        for batch in sampler.global_batches(seed):
            rows = np.concatenate(batch)
            if len(batch) > 1:
                assert len(rows) * sampler.lengths[rows].max() <= 1_600_000


def test_limit_of_utterances_holds() -> None:
    sampler = make_sampler(SIZES, limit=BatchLimit(utterances=24))
    sizes = [len(batch) for seed in range(5) for batch in sampler.generate(seed)]
    assert max(sizes) <= 24
    assert np.mean(sizes) > 18


def test_batches_hold_languages_in_their_share_and_similar_lengths() -> None:
    sampler = make_sampler(SIZES)
    batches = sampler.generate(3)
    shares = [Counter(map(language, batch))["en"] / len(batch) for batch in batches]
    assert np.mean(shares) == pytest.approx(900 / 1240, abs=0.05)
    assert np.std(shares) < 0.12
    index = dict(zip(sampler.keys, sampler.lengths, strict=True))
    padded = sum(len(batch) * max(index[key] for key in batch) for batch in batches)
    used = sum(index[key] for batch in batches for key in batch)
    assert used / padded > 0.85
    # Longest first, as ESPnet's samplers deliver.
    assert all(index[batch[0]] == max(index[k] for k in batch) for batch in batches)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 100.0])
def test_temperature_repeats_small_languages(temperature: float) -> None:
    sampler = make_sampler(SIZES, options={"temperature": temperature, "max_repeats": 100.0})
    counts = Counter(language(key) for batch in sampler.generate(1) for key in batch)
    expected = np.array([40, 300, 900]) ** (1 / temperature)
    found = np.array([counts["ca"], counts["de"], counts["en"]])
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), atol=0.01)
    assert counts["en"] == 900


def test_repetition_has_a_limit() -> None:
    sampler = make_sampler({"ca": 10, "en": 1000}, options={"temperature": 100.0, "max_repeats": 3})
    counts = Counter(language(key) for batch in sampler.generate(1) for key in batch)
    assert counts == {"ca": 30, "en": 1000}


def test_epochs_differ_and_can_be_made_again() -> None:
    sampler, again = make_sampler(SIZES), make_sampler(SIZES)
    assert sampler.generate(5) == again.generate(5)
    assert sampler.generate(5) != sampler.generate(6)
    sampler.generate(9)  # no state is carried over
    assert sampler.generate(5) == again.generate(5)


def test_languages_meet_all_others_when_few_fit_into_a_batch() -> None:
    sizes = dict.fromkeys(("ca", "de", "en", "fr", "zh"), 200)
    sampler = make_sampler(sizes, options={"languages_per_batch": 2})
    pairs = {
        tuple(sorted(set(map(language, batch))))
        for seed in range(6)
        for batch in sampler.generate(seed)
    }
    assert sum(len(pair) == 2 for pair in pairs) == 10


def test_expected_counts_are_what_batches_hold_on_average() -> None:
    sampler = make_sampler(SIZES, options={"temperature": 3.0}, world_size=2)
    members = [key for key in sampler.keys if language(key) == "de" and key.endswith(("0", "5"))]
    found = [
        sum(key in set(members) for unit in batch for key in sampler.keys[unit])
        for seed in range(30)
        for batch in sampler.global_batches(seed)
    ]
    assert sampler.per_batch(members) == pytest.approx(np.mean(found), rel=0.03)


def test_expected_counts_of_very_little_data() -> None:
    """Four batches of three utterances: some are used more than once."""
    sampler = make_sampler({"en": 3}, multiple=4)
    assert len(sampler) == 4
    held = [len(batch) for batch in sampler.generate(5)]
    assert sampler.per_batch(list(sampler.keys)) == pytest.approx(np.mean(held))


def test_tiny_languages_are_repeated_within_a_batch_only_for_want_of_utterances() -> None:
    sampler = make_sampler({"en": 50, "zh": 1}, world_size=2, rank=1)
    batches = sampler.generate(0)
    assert sum(key == "zh-00000" for batch in batches for key in batch) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.5}, r"sampler_conf.temperature: expected a number >= 1, found 0.5"),
        ({"temperature": "hot"}, r"sampler_conf.temperature: expected a number"),
        ({"max_repeats": float("inf")}, r"sampler_conf.max_repeats"),
        ({"length_jitter": 1.0}, r"sampler_conf.length_jitter: expected a number below 1"),
        ({"languages_per_batch": 0}, r"sampler_conf.languages_per_batch: expected a whole number"),
        ({"temprature": 1}, r"unknown key temprature; known keys: temperature, max_repeats"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        SamplerOptions.from_dict(options)


def test_unusable_data_is_refused() -> None:
    lengths, languages = make_data({"en": 3})
    with pytest.raises(SamplerError, match="found none"):
        LanguageSampler({}, {}, BatchLimit(bins=1))
    del languages["en-00001"]
    with pytest.raises(SamplerError, match=r"utt2lang.*1, such as en-00001"):
        LanguageSampler(lengths, languages, BatchLimit(bins=1))
    with pytest.raises(SamplerError, match=r"batch_bins: expected at least .* median length"):
        make_sampler(SIZES, limit=BatchLimit(bins=60_000))
    with pytest.raises(SamplerError, match=r"batch_size: expected at least 8"):
        make_sampler(SIZES, limit=BatchLimit(utterances=6), world_size=4)


LIKELY = {
    "temperature": st.floats(0, 9),
    "max_repeats": st.floats(0, 9),
    "languages_per_batch": st.integers(-1, 5),
    "length_jitter": st.floats(-0.1, 1.1),
}


@fuzz()
@given(mappings(LIKELY) | values)
def test_any_options(conf: object) -> None:
    found = outcome(lambda: SamplerOptions.from_dict(conf), SamplerError, "^sampler_conf")
    assert found is None or found.temperature >= 1.0
