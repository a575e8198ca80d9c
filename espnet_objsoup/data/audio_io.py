# SPDX-License-Identifier: Apache-2.0
"""Reading one recording that a `wav.scp` names.

A location is a path, an entry of an archive (`<path>.ark:<offset>`, as Kaldi and kaldiio write
them) or, only where the caller allows it, a command ending in `|` whose output is audio.
"""

import io
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from espnet_objsoup.data.audio_end import what_is_missing

# No file is larger than 18 digits say.
_ARK_ENTRY = re.compile(r"(?P<path>.+\.ark):(?P<offset>[0-9]{1,18})")
# libsndfile says so for FLAC streams without a length.
_UNKNOWN_FRAMES = 2**40
# Decoders disagree about an MP3 file's delay and padding by up to two MPEG frames.
_MP3_SLACK = 2304
# As Kaldi's extract-segments: annotators round the end of the last segment up.
_MAX_OVERSHOOT_S = 0.5
_BLOCK = 1 << 20


@dataclass(frozen=True)
class AudioInfo:
    """What a header says.

    Attributes:
        frames: samples per channel; None if the header does not know.
        sample_rate_hz: rate.
        channels: number of channels.
        container: libsndfile's name, such as `FLAC`, `WAV`, `MP3`.
        subtype: libsndfile's name, such as `PCM_16`.
    """

    frames: int | None
    sample_rate_hz: int
    channels: int
    container: str
    subtype: str


def is_pipe(location: str) -> bool:
    """Whether a location is a command, for us or for kaldiio, which looks past any white space."""
    location = location.strip()
    return location.endswith("|") or location.startswith("|")


def ark_entry(location: str) -> tuple[str, int] | None:
    """Path and offset of an archive's entry; None for other locations."""
    match = None if is_pipe(location) else _ARK_ENTRY.fullmatch(location)
    return None if match is None else (match["path"], int(match["offset"]))


def espnet_type(wav_scp: Path) -> str:
    """Type of `wav.scp` in ESPnet's (file, name, type) triples: `sound` or `kaldi_ark`.

    ESPnet's `sound` reads files only. Its `kaldi_ark` would give the samples of plain WAV files as
    integers, so that a mixture is not readable by either.

    Raises:
        ValueError: for an empty `wav.scp`, one with both kinds of locations, or one with a command:
            ESPnet's reader of archives would run it.
    """
    kinds = set()
    with open(wav_scp, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            # Divided as ESPnet and kaldiio do it, so that nothing looks different to them.
            location = line.split(maxsplit=1)[-1].strip()
            if is_pipe(location):
                raise ValueError(
                    f"{wav_scp}:{number}: expected a file or an entry of an archive, found a "
                    "command; run format_audio (stage 3) with --allow_pipes true where you trust it"
                )
            kinds.add(ark_entry(location) is not None)
    if len(kinds) != 1:
        found = "both" if kinds else "neither (it is empty)"
        raise ValueError(
            f"{wav_scp}: expected either audio files or entries of archives (x.ark:123), found "
            f"{found}; run format_audio (stage 3) on the whole directory"
        )
    return "kaldi_ark" if kinds.pop() else "sound"


def audio_info(location: str, allow_pipes: bool = False) -> AudioInfo:
    """Header of a recording.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is not audio, shorter than its header says, or a command that is not
            allowed or fails.
    """
    with open_audio(location, allow_pipes) as sound:
        return info_of(sound)


def read_audio(
    location: str,
    begin_s: float | None = None,
    end_s: float | None = None,
    *,
    channel: int | None = None,
    allow_pipes: bool = False,
) -> tuple[np.ndarray, int]:
    """Samples of a recording or of a part of it.

    Args:
        location: path, `<path>.ark:<offset>` or command.
        begin_s, end_s: part to read, in seconds.
        channel: which one of several, from 0.
        allow_pipes: run commands.

    Returns:
        Samples in -1 .. 1, float32 (T,), and the sample rate in Hz.

    Raises:
        OSError: if it cannot be opened.
        ValueError: as `audio_info`; if a part or channel does not exist, if several channels leave
            a choice, or if there are no samples.
    """
    with open_audio(location, allow_pipes) as sound:
        return read_open(sound, begin_s, end_s, channel), sound.samplerate


def open_audio(location: str, allow_pipes: bool = False) -> soundfile.SoundFile:
    """Open a recording once, for `info_of` and `read_open`; errors as `audio_info`."""
    entry = ark_entry(location)
    if is_pipe(location):
        return _decoder(io.BytesIO(_run(location, allow_pipes)), "the command's output")
    if entry is not None:
        return _decoder(io.BytesIO(_read_entry(*entry)), "the archive's entry")
    # libsndfile reports a missing or forbidden file without a reason.
    size = os.stat(location).st_size
    if size == 0:
        raise ValueError("expected audio, found an empty file; replace it")
    with open(location, "rb") as file:
        missing = what_is_missing(file, size)
    if missing:
        raise ValueError(f"{missing}: the file is cut off; replace it")
    return _decoder(location, "the file")


def info_of(sound: soundfile.SoundFile) -> AudioInfo:
    """Header of an open recording."""
    frames = None if sound.frames >= _UNKNOWN_FRAMES else sound.frames
    return AudioInfo(frames, sound.samplerate, sound.channels, sound.format, sound.subtype)


def read_open(
    sound: soundfile.SoundFile,
    begin_s: float | None = None,
    end_s: float | None = None,
    channel: int | None = None,
) -> np.ndarray:
    """Samples of an open recording; arguments and errors as `read_audio`."""
    info = info_of(sound)
    _check_channel(info, channel)
    rate = info.sample_rate_hz
    begin = 0 if begin_s is None else round(begin_s * rate)
    end = info.frames if end_s is None else round(end_s * rate)
    if info.frames is not None:
        if begin_s is not None and begin >= info.frames:
            raise ValueError(
                f"segment begins at {begin_s} s, but the recording ends at "
                f"{info.frames / rate:.2f} s; correct `segments`"
            )
        if end_s is not None and end > info.frames + _MAX_OVERSHOOT_S * rate:
            raise ValueError(
                f"segment ends at {end_s} s, but the recording ends at "
                f"{info.frames / rate:.2f} s; correct `segments`"
            )
        end = min(end, info.frames) if end is not None else info.frames
    samples = _read_frames(sound, begin, end)
    slack = _MP3_SLACK if info.container == "MP3" else 0
    if end is not None and begin + len(samples) + slack < end:
        raise ValueError(
            f"expected {end} samples as the header says, found {begin + len(samples)}: the file "
            "is cut off or damaged; replace it"
        )
    if len(samples) == 0:
        raise ValueError("expected audio, found no samples; replace it or remove the utterance")
    if not np.isfinite(samples).all():
        at = (begin + np.argmin(np.isfinite(samples.reshape(len(samples), -1)).all(axis=1))) / rate
        raise ValueError(
            f"expected finite samples, found NaN or infinity at {at:.3f} s; replace it or remove "
            "the utterance"
        )
    return samples[:, channel or 0] if samples.ndim > 1 else samples


def _check_channel(info: AudioInfo, channel: int | None) -> None:
    if channel is None and info.channels > 1:
        raise ValueError(
            f"expected one channel, found {info.channels}; choose one with --channel 0"
        )
    if channel is not None and not 0 <= channel < info.channels:
        raise ValueError(
            f"expected a recording with channel {channel} (from 0), found {info.channels} "
            "channel(s); choose another --channel"
        )


def _read_frames(sound: soundfile.SoundFile, begin: int, end: int | None) -> np.ndarray:
    try:
        if begin:
            sound.seek(begin)
        if end is not None:
            return sound.read(end - begin, dtype="float32")
        blocks = []
        while len(block := sound.read(_BLOCK, dtype="float32")):
            blocks.append(block)
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    except soundfile.LibsndfileError as err:
        raise ValueError(
            f"expected {end} samples, found damage before their end ({_reason(err)}): the file is "
            "cut off or damaged; replace it"
        ) from err


def _decoder(source: str | io.BytesIO, what: str) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(source)
    except soundfile.LibsndfileError as err:
        raise ValueError(
            f"expected audio that libsndfile reads (flac, wav, mp3, ogg, sph ...), found that "
            f"{what} is none ({_reason(err)}); replace or convert it"
        ) from err


def _reason(err: soundfile.LibsndfileError) -> str:
    return str(err.error_string).strip() or "decoding failed"


def _run(location: str, allow_pipes: bool) -> bytes:
    if not allow_pipes:
        raise ValueError(
            "expected a path, found a command; write the audio to files, or give --allow_pipes "
            "true where you trust wav.scp"
        )
    if not location.endswith("|"):
        raise ValueError("expected a command that ends in `|`, found one that begins with it")
    # The line of wav.scp is the user's own program, as it is in Kaldi; nothing is put into it. A
    # failure anywhere in a pipeline counts: its output would be cut off.
    command = ["bash", "-o", "pipefail", "-c", location.rstrip("|")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip()[-500:]
        raise ValueError(
            f"expected the command to succeed, found exit status {done.returncode}: "
            f"{message or 'no message'}; run it by hand"
        )
    if not done.stdout:
        raise ValueError("expected audio from the command, found no output; run it by hand")
    return done.stdout


def _read_entry(path: str, offset: int) -> bytes:
    """Encoded audio of an archive's entry.

    kaldiio.load_mat would decode the entry to float64 and take one that is cut off for whole.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(min(offset, size))  # some file systems refuse places far beyond the end
        head = file.read(6)
        if head[:5] == b"AUDIO" and len(head) == 6:
            length = int.from_bytes(file.read(head[5]), "little")
            encoded = b""
        elif head[:4] == b"RIFF" and len(head) == 6:
            rest = head[4:] + file.read(2)
            length, encoded = int.from_bytes(rest, "little"), head[:4] + rest
        else:
            raise ValueError(
                f"expected audio in the archive at offset {offset}, found {head!r}; the archive "
                "was replaced or cut off: run format_audio (stage 3) again"
            )
        # Looked at before reading, which would make room for whatever number a damaged entry has.
        left = size - file.tell()
        if left < length:
            raise ValueError(
                f"expected {length} bytes in the archive at offset {offset}, found {left}: the "
                "archive is cut off; run format_audio (stage 3) again"
            )
        return encoded + file.read(length)
