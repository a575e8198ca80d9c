# SPDX-License-Identifier: Apache-2.0
"""eSpeak NG through ctypes, from the PyPI package espeakng-loader (library and voice data).

The library keeps state from one utterance to the next (even over its own termination), so the
same sequence of utterances is bit-identical only from a fresh process.
Source: espeak-ng/speak_lib.h, version 1.52.
"""

import ctypes

import numpy as np

# Values of speak_lib.h.
_SYNCHRONOUS_RETRIEVAL = 2
_DO_NOT_EXIT = 0x8000
_UTF8 = 1
_PARAMETERS = {"rate_wpm": 1, "pitch": 3, "pitch_range": 4}

# eSpeak's names of the languages that the grammar has.
VOICE_NAMES = {"en": "en-us", "fr": "fr", "de": "de", "es": "es", "ca": "ca", "zh": "cmn"}


class SynthesiserError(RuntimeError):
    """The synthesiser is missing or refuses what it is asked."""


class Espeak:
    """A synthesiser; one per process.

    Attributes:
        sample_rate_hz: rate of what `synthesise` returns.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as err:
            raise SynthesiserError(
                "espeakng-loader is not installed; the mini corpus needs it: "
                "pip install espeakng-loader==0.2.4"
            ) from err
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._declare()
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate_hz = self._library.espeak_Initialize(
            _SYNCHRONOUS_RETRIEVAL, 0, data, _DO_NOT_EXIT
        )
        if self.sample_rate_hz <= 0:
            raise SynthesiserError(f"eSpeak NG does not start with the voice data in {data!r}")
        self._chunks: list[np.ndarray] = []
        # Kept as an attribute: ctypes does not hold a reference to the callback.
        self._callback = self._callback_type(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _declare(self) -> None:
        c = ctypes
        library = self._library
        library.espeak_Initialize.argtypes = [c.c_int, c.c_int, c.c_char_p, c.c_int]
        library.espeak_SetVoiceByName.argtypes = [c.c_char_p]
        library.espeak_SetParameter.argtypes = [c.c_int, c.c_int, c.c_int]
        library.espeak_Synth.argtypes = [
            c.c_char_p, c.c_size_t, c.c_uint, c.c_int, c.c_uint, c.c_uint, c.c_void_p, c.c_void_p,
        ]  # fmt: skip
        self._callback_type = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.c_void_p)

    def _receive(self, samples: ctypes.Array, count: int, _: int) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    def synthesise(
        self, text: str, lang: str, variant: str, rate_wpm: int, pitch: int, pitch_range: int
    ) -> np.ndarray:
        """Speak a text.

        Args:
            text: text of one utterance.
            lang: a key of VOICE_NAMES.
            variant: eSpeak voice variant, such as `m3`.
            rate_wpm: words per minute, 80 to 450.
            pitch, pitch_range: 0 to 100.

        Returns:
            (N,) int16 samples at `sample_rate_hz`.

        Raises:
            SynthesiserError: if the voice does not exist or nothing is spoken.
        """
        voice = f"{VOICE_NAMES[lang]}+{variant}"
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SynthesiserError(f"eSpeak NG has no voice {voice}")
        values = {"rate_wpm": rate_wpm, "pitch": pitch, "pitch_range": pitch_range}
        for name, code in _PARAMETERS.items():
            self._library.espeak_SetParameter(code, values[name], 0)
        self._chunks = []
        encoded = text.encode() + b"\0"
        status = self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        if status != 0 or not self._chunks:
            raise SynthesiserError(f"eSpeak NG does not speak {text!r} with voice {voice}")
        return np.concatenate(self._chunks)
