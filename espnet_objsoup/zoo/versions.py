# SPDX-License-Identifier: Apache-2.0
"""Whether a model was made for the versions that are installed."""

import logging
import re
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import espnet_objsoup
from espnet_objsoup.bin.cli import printable
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.meta import FORMAT, Meta


def package_version(name: str) -> str:
    """Version of an installed package, empty if it is not."""
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return ""


def check_versions(meta: Meta, name: str) -> None:
    """Refuse what this version cannot read; warn of what may give other results.

    An error is another format, another major version or a newer minor one of espnet_objsoup. An
    older minor version, and another ESPnet, are warnings: weights that do not fit are noticed when
    the model is loaded.

    Args:
        meta: description of the model.
        name: of the model, for messages.

    Raises:
        ModelError: with the command that installs what is needed.
    """
    own, needed = espnet_objsoup.__version__, _numbers(meta.version)
    # Not the command that the archive has: it may be anybody's, and users copy it.
    remedy = f"; install what it needs: {install_command(meta.version)}" if needed else ""
    written = meta.facts.get("format", FORMAT)
    if written != FORMAT:
        raise ModelError(
            f"{name}: expected a model of format {FORMAT}, found "
            f"{printable(str(written)[:40])}{remedy}"
        )
    if meta.version:
        here = _numbers(own)
        if needed is None:
            raise ModelError(
                f"{name}: expected a version of espnet_objsoup such as {own}, found "
                f"{meta.version[:40]!r}"
            )
        if needed[0] != here[0] or needed > here:
            raise ModelError(
                f"{name}: the model was made by espnet_objsoup {meta.version}, installed is {own}, "
                f"which cannot be expected to read it{remedy}"
            )
        if needed < here:
            logging.warning(
                "%s: made by espnet_objsoup %s, installed is %s; if results differ, use that",
                *(name, meta.version, own),
            )
    espnet = package_version("espnet")
    if meta.espnet and espnet and meta.espnet != espnet:
        logging.warning(
            "%s: made with ESPnet %s, installed is %s; layers may have changed in between",
            *(name, printable(meta.espnet[:40]), espnet),
        )


def install_command(version: str) -> str:
    """Command that installs a version of this package."""
    return f'pip install "espnet-objsoup=={version}"'


def _numbers(version: str) -> tuple[int, int] | None:
    """Major and minor; None for anything but a version."""
    found = re.fullmatch(r"(\d{1,9})\.(\d{1,9})([.+-]?[A-Za-z0-9]{1,20}){0,6}", version, re.ASCII)
    return (int(found[1]), int(found[2])) if found else None
