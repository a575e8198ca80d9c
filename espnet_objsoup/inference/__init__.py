# SPDX-License-Identifier: Apache-2.0
"""Recognise and translate with a trained model.

`Speech2Text` is imported when it is asked for: it takes torch and espnet2 with it, which the types
of results and the errors do not need.
"""

from typing import TYPE_CHECKING, Any

from espnet_objsoup.decoding.options import InferenceError, SearchOptions
from espnet_objsoup.inference.results import (
    CTCPosteriors,
    FileResult,
    Hypothesis,
    Result,
    Segment,
    Word,
)
from espnet_objsoup.inference.segmentation import SegmentOptions

if TYPE_CHECKING:
    from espnet_objsoup.inference.speech2text import Speech2Text

__all__ = [
    "CTCPosteriors",
    "FileResult",
    "Hypothesis",
    "InferenceError",
    "Result",
    "SearchOptions",
    "Segment",
    "SegmentOptions",
    "Speech2Text",
    "Word",
]


def __getattr__(name: str) -> Any:
    if name == "Speech2Text":
        from espnet_objsoup.inference.speech2text import Speech2Text

        return Speech2Text
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
