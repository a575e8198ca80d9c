# SPDX-License-Identifier: Apache-2.0
"""Synthetic parallel sentences in six languages, and a synthesiser to speak them."""

from espnet_objsoup.data.synthesis.linearise import LANGUAGES, linearise
from espnet_objsoup.data.synthesis.sentences import SentenceSampler, split_of

__all__ = ["LANGUAGES", "SentenceSampler", "linearise", "split_of"]
