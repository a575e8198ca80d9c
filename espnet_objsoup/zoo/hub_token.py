# SPDX-License-Identifier: Apache-2.0
"""The hub's token, which nothing of this package reads but to keep it out of messages and logs.

huggingface_hub takes it from its own store or the environment for each request.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import OIDCError

from espnet_objsoup.zoo.errors import ModelError

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def check_token() -> None:
    """Refuse a token that no request could carry, which errors of HTTP would show.

    Raises:
        ModelError: naming where it is from.
    """
    if any(not token.isascii() or not token.isprintable() or " " in token for token in _tokens()):
        raise ModelError(
            f"expected a token of ASCII letters, digits and _ in {token_source()}, found other "
            "characters; copy it again, or run 'hf auth login --force'"
        )


def without_token(text: str) -> str:
    """A message with the user's token left out, should a server repeat it."""
    return _without(text, _tokens())


def _tokens() -> list[str]:
    given = [os.environ.get(variable, "").strip() for variable in _VARIABLES]
    with suppress(OIDCError):  # if that cannot be had there is none to hide
        given.append(huggingface_hub.get_token() or "")
    return [token for token in given if token]


def _without(text: str, tokens: Iterable[str]) -> str:
    for token in tokens:
        text = text.replace(token, "<token>")
    return text


@contextmanager
def logs_without_token() -> Iterator[None]:
    """Keep the token out of what is logged meanwhile.

    The client does so with what it sends. But httpcore logs the answers' heads for those who
    debug, and a gateway may repeat there what it did not like.
    """
    tokens, before = _tokens(), logging.getLogRecordFactory()

    def make_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        with suppress(TypeError, ValueError):  # logging reports such a record itself
            record.msg, record.args = _without(record.getMessage(), tokens), ()
        if record.exc_info:
            record.exc_text = _without(logging.Formatter().formatException(record.exc_info), tokens)
        return record

    logging.setLogRecordFactory(make_record)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


def token_source() -> str:
    """Where the token comes from, in words."""
    for variable in _VARIABLES:
        if os.environ.get(variable, "").strip():
            return f"the environment variable {variable}"
    return constants.HF_TOKEN_PATH
