# SPDX-License-Identifier: Apache-2.0
"""The model as users see it: calls, streams, long audio, word times."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_objsoup.inference import InferenceError, Result, SearchOptions, Speech2Text
from espnet_objsoup.inference.segmentation import split

RATE = 16000


def said(result: Result) -> tuple:
    return result.token_ids, pytest.approx(result.score, rel=1e-4), result.lang, result.target_lang


def test_what_the_model_can_do(small: Speech2Text) -> None:
    assert small.objectives == ("asr/en", "asr/fr", "st/fr-en")
    assert (small.languages("asr"), small.languages("st")) == (["en", "fr"], ["fr"])
    assert (small.target_languages("fr"), small.target_languages("en")) == (["en"], [])


def test_an_assumed_length_is_told_once(
    small_experiment: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = Speech2Text(
        small_experiment / "config.yaml", small_experiment / "model.pth",
        options=SearchOptions(beam_size=1, maxlenratio=-2),
    )  # fmt: skip
    wave = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32) / 10
    model(wave[:RATE], lang="fr")
    assert caplog.text == ""
    model([wave, wave], lang="fr")
    assert caplog.text.count("does not say how long its training utterances were") == 1


@pytest.mark.parametrize("task", ["asr", "st"])
def test_a_list_is_decoded_as_its_parts_are(
    small: Speech2Text, noises: list[np.ndarray], task: str
) -> None:
    together = small(noises, task, "fr", nbest=2, batch_size=3)
    alone = [small(noise, task, "fr", nbest=2) for noise in noises]
    assert [[said(r) for r in one] for one in together] == [[said(r) for r in a] for a in alone]
    for results, noise in zip(together, noises, strict=True):
        for result in results:
            assert result.audio_s == len(noise) / RATE
            assert result.seconds > 0
            (segment,) = result.segments
            assert (segment.start_s, segment.end_s) == (0, len(noise) / RATE)
            assert segment.text == result.text == small.tokenizer.tokens2text(result.tokens)
            assert result.words is None
            assert result.target_lang == ("en" if task == "st" else None)


def test_hypotheses_are_those_of_stage_12(small: Speech2Text, noises: list[np.ndarray]) -> None:
    h, lengths = small.encode(noises)
    for task in ("asr", "st"):
        searched = small.search(h, lengths, task, ["fr"] * 4, ["en"] * 4, 2)
        for found, expected in zip(small(noises, task, "fr", nbest=2), searched, strict=True):
            assert [r.token_ids for r in found] == [r.token_ids for r in expected]
            assert [r.score for r in found] == pytest.approx([r.score for r in expected], rel=1e-4)


def test_all_kinds_of_speech(small: Speech2Text, noises: list[np.ndarray], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noises[0], RATE, subtype="PCM_16")
    integers, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    given = [tmp_path / "a.wav", str(tmp_path / "a.wav"), integers, torch.from_numpy(integers)]
    found = [said(results[0]) for results in small(given, "asr", "fr")]
    assert found == [found[0]] * 4
    (half,) = small(integers[::2].copy(), "asr", "fr", sample_rate_hz=8000)
    assert half.audio_s == pytest.approx(0.5)


def paused(noises: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([part for noise in noises for part in (noise, np.zeros(8000))])


def test_long_audio_is_the_sum_of_its_pieces(
    small: Speech2Text, noises: list[np.ndarray], tmp_path: Path
) -> None:
    long = paused([noises[1], noises[3], noises[1]]).astype(np.float32)
    pieces = list(split([long], RATE, small.segments))
    assert len(pieces) == 3
    assert not any(piece.overlap_s for piece in pieces)
    alone = [small(piece.samples, "asr", "fr")[0] for piece in pieces]
    soundfile.write(tmp_path / "long.wav", long, RATE, subtype="FLOAT")
    for speech in (long, tmp_path / "long.wav"):
        (result,) = small(speech, "asr", "fr", word_times=True)
        assert [s.text for s in result.segments] == [a.text for a in alone]
        assert result.text == " ".join(a.text for a in alone if a.text)
        assert result.score == pytest.approx(sum(a.score for a in alone), rel=1e-4)
        assert result.audio_s == len(long) / RATE
        for segment, piece in zip(result.segments, pieces, strict=True):
            assert segment.start_s == piece.start_s
        starts = [word.start_s for word in result.words]
        assert starts == sorted(starts)
        assert starts[-1] >= pieces[-1].start_s


@pytest.mark.parametrize("task", ["asr", "st"])
def test_long_audio_without_pauses(small: Speech2Text, task: str) -> None:
    noise = 0.3 * np.random.default_rng(5).standard_normal(4 * RATE).astype(np.float32)
    results = small(noise, task, "fr", nbest=3)
    assert len(results) == 3
    for result in results:
        assert len(result.segments) > 3
        for before, after in zip(result.segments, result.segments[1:], strict=False):
            assert before.end_s - after.start_s == pytest.approx(0.3)
    assert [r.score for r in results] == sorted((r.score for r in results), reverse=True)


def test_silence_says_nothing(small: Speech2Text) -> None:
    for seconds in (1, 5):
        (result,) = small(np.zeros(seconds * RATE, np.int16), "asr", word_times=True)
        assert (result.text, result.words, result.lang) == ("", (), "und")
        assert result.audio_s == seconds


def test_word_times_lie_in_the_audio(small: Speech2Text, noises: list[np.ndarray]) -> None:
    for (result,), noise in zip(small(noises, "asr", "fr", word_times=True), noises, strict=True):
        assert [word.text for word in result.words] == result.text.split()
        for word in result.words:
            assert 0 <= word.start_s < word.end_s <= len(noise) / RATE


def test_frames_are_counted_in_seconds(small: Speech2Text, noises: list[np.ndarray]) -> None:
    found = small.ctc_posteriors(noises[3])
    assert found.frame_shift_s == pytest.approx(0.02)  # a hop of 10 ms, subsampled by two
    assert found.probabilities.shape[1] == len(found.tokens)
    assert found.probabilities.sum(1) == pytest.approx(1, abs=1e-4)
    assert len(found.probabilities) * found.frame_shift_s == pytest.approx(14 / 16, abs=0.05)
    with pytest.raises(InferenceError, match="no CTC"):
        small.ctc_posteriors(noises[3], "st")
    with pytest.raises(InferenceError, match=r"at most 1\.2 s of speech, found more"):
        small.ctc_posteriors(np.tile(noises[3], 3))


class TestStream:
    def test_files_are_asked_for_when_they_are_needed(
        self, small: Speech2Text, noises: list[np.ndarray], tmp_path: Path
    ) -> None:
        asked = []

        def files() -> Iterator[Path]:
            for i in range(7):
                asked.append(i)
                soundfile.write(tmp_path / f"{i}.wav", noises[i % 4], RATE)
                yield tmp_path / f"{i}.wav"

        stream = small.stream(files(), "st", "fr", batch_size=3)
        assert asked == []
        found = [next(stream)]
        assert len(asked) == 3
        found += stream
        assert [f.path.name for f in found] == [f"{i}.wav" for i in range(7)]
        for i, one in enumerate(found):
            assert one.error is None
            (expected,) = small(tmp_path / f"{i}.wav", "st", "fr")
            assert said(one.results[0]) == said(expected)

    def test_a_file_that_fails_stops_no_other(
        self, small: Speech2Text, noises: list[np.ndarray], tmp_path: Path
    ) -> None:
        soundfile.write(tmp_path / "good.wav", noises[0], RATE)
        (tmp_path / "bad.wav").write_text("no audio")
        names = ["good.wav", "bad.wav", "missing.wav", "good.wav"]
        found = list(small.stream((tmp_path / n for n in names), "asr", "fr", batch_size=4))
        assert [f.error is None for f in found] == [True, False, False, True]
        assert [f.results is None for f in found] == [False, True, True, False]
        assert found[2].error == "expected an audio file, found none"

    def test_a_request_that_no_file_could_be_served_fails_at_once(self, small: Speech2Text) -> None:
        with pytest.raises(InferenceError, match="found 'xx'"):
            small.stream(iter(["a.wav"]), "asr", "xx")


def test_threads_take_turns(small: Speech2Text, noises: list[np.ndarray]) -> None:
    expected = {lang: said(small(noises[1], "asr", lang)[0]) for lang in ("en", "fr")}
    found: list[tuple] = []

    def ask(lang: str) -> None:
        for _ in range(2):
            found.append((lang, said(small(noises[1], "asr", lang)[0])))

    threads = [threading.Thread(target=ask, args=(lang,)) for lang in ("en", "fr")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(result == expected[lang] for lang, result in found)


def test_batches_that_do_not_fit_are_halved(
    small: Speech2Text, noises: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [said(results[0]) for results in small(noises, "asr", "fr")]
    encode, sizes = small._encoder, []

    def short_of_memory(speeches):
        sizes.append(len(speeches))
        if len(speeches) > 1:
            raise torch.OutOfMemoryError("no memory")
        return encode(speeches)

    short_of_memory.is_too_short = encode.is_too_short
    monkeypatch.setattr(small._pipeline, "encoder", short_of_memory)
    assert [said(results[0]) for results in small(noises, "asr", "fr")] == expected
    assert sizes == [4, 2, 1, 1, 2, 1, 1]


def test_model_at_another_rate(small_experiment: Path, tmp_path: Path) -> None:
    conf = yaml.safe_load((small_experiment / "config.yaml").read_text())
    conf["frontend_conf"]["fs"] = "8k"
    # ESPnet's frontend does not keep its rate; n_mels must fit below 4 kHz all the same.
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(conf))
    state = torch.load(small_experiment / "model.pth", weights_only=True)
    state = {k: v for k, v in state.items() if not k.startswith("frontend")}
    from espnet_objsoup.tasks.objsoup import ObjSoupTask

    model, _ = ObjSoupTask.build_model_from_file(tmp_path / "config.yaml")
    torch.save(model.state_dict() | state, tmp_path / "model.pth")
    other = Speech2Text(tmp_path / "config.yaml", tmp_path / "model.pth")
    assert other.sample_rate_hz == 8000
    assert other(np.zeros(8000), "asr", "fr")[0].audio_s == 1.0


def test_options_of_a_packed_model(small_experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "decode.yaml").write_text("beam_size: 2\nnbest: 2\nctc_greedy: true\n")
    files = (small_experiment / "config.yaml", small_experiment / "model.pth")
    config = tmp_path / "decode.yaml"
    model = Speech2Text(*files, objsoup_inference_config=config)
    assert model.options == SearchOptions(beam_size=2)
    chosen = SearchOptions(beam_size=7)
    assert Speech2Text(*files, options=chosen, objsoup_inference_config=config).options == chosen


def test_the_lengths_of_training_are_those_of_segments(
    small_experiment: Path, tmp_path: Path
) -> None:
    conf = yaml.safe_load((small_experiment / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**conf, "trained_length_s": [3.5, 9]}))
    model = Speech2Text(tmp_path / "config.yaml", small_experiment / "model.pth")
    assert (model.segments.segment_s, model.segments.whole_s) == (3.5, 9)


def test_a_result_can_be_changed_in_a_copy(small: Speech2Text, noises: list[np.ndarray]) -> None:
    (result,) = small(noises[0], "asr", "fr")
    assert replace(result, text="x").tokens == result.tokens
