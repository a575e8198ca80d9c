# SPDX-License-Identifier: Apache-2.0
"""A picture of what CTC hears, frame by frame."""

from typing import TYPE_CHECKING

import numpy as np

from espnet_objsoup.inference.results import CTCPosteriors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_TOKENS = 40
_LEAST_PROBABILITY = 0.1


# DejaVu, which comes with matplotlib, has no Chinese, Japanese and Korean characters.
_OTHER_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "PingFang SC", "Noto Sans Thai", "Noto Sans",
)  # fmt: skip


def _font_families() -> list[str]:
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _OTHER_FONTS if name in installed)]


def shown_tokens(posteriors: CTCPosteriors) -> list[int]:
    """Tokens worth a row, in the order in which they are heard; never `<blank>`.

    Those whose probability reaches a tenth somewhere; of too many, the most probable.
    """
    peaks = posteriors.probabilities.max(axis=0)
    peaks[0] = 0.0
    loud = np.flatnonzero(peaks >= _LEAST_PROBABILITY)
    loud = loud[np.argsort(-peaks[loud], kind="stable")][:_MOST_TOKENS]
    heard_at = posteriors.probabilities.argmax(axis=0)
    return sorted(loud.tolist(), key=lambda token: (heard_at[token], token))


def plot_posteriors(posteriors: CTCPosteriors) -> "Figure":
    """Probability over time, a row for each token and one for `<blank>` above them."""
    from matplotlib.figure import Figure

    rows = [0, *shown_tokens(posteriors)]
    probabilities = posteriors.probabilities[:, rows].T
    figure = Figure(figsize=(9, 1.5 + 0.22 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        probabilities,
        aspect="auto", interpolation="nearest", vmin=0.0, vmax=1.0, cmap="viridis",
        extent=(0.0, len(posteriors.probabilities) * posteriors.frame_shift_s, len(rows), 0.0),
    )  # fmt: skip
    axes.set_yticks(
        np.arange(len(rows)) + 0.5,
        [posteriors.tokens[row] for row in rows],
        fontfamily=_font_families(),
    )
    axes.set_xlabel("time (s)")
    axes.set_title("CTC posteriors of recognition")
    figure.colorbar(image, ax=axes, label="probability")
    return figure
