# SPDX-License-Identifier: Apache-2.0
"""A model's line of the ESPnet model zoo's table, by which espnet_model_zoo finds models.

Source: table.csv and downloader.py of espnet_model_zoo 0.1.11. A repository's address as `url` is
found there by the name and by the other columns; https://huggingface.co/ alone only by the name.
"""

import csv
import io

from espnet_objsoup.zoo.facts import ModelFacts
from espnet_objsoup.zoo.meta import Meta

COLUMNS = (
    "corpus", "task", "name", "url", "fs", "lang", "gender", "pytorch", "espnet", "commit", "valid",
)  # fmt: skip
# Not asr or st: who asks the zoo for those gives the files to ESPnet's own classes, which read
# other keys.
TASK = "objsoup"
HUB = "https://huggingface.co/"


def table_entry(meta: Meta, repository: str) -> dict[str, str]:
    """A model's values in the zoo's table.

    Args:
        meta: description of the packed model.
        repository: `user/name` on the hub.

    Raises:
        ModelError: if the description makes no sense.
    """
    facts = ModelFacts.from_dict({"name": "", "objectives": [], **meta.facts}, repository)
    languages = facts.all_languages
    values = {
        "corpus": (facts.recipe or "").removesuffix("_objsoup") or facts.corpus or "",
        "task": TASK,
        "name": repository,
        "url": HUB + repository,
        "fs": str(facts.sample_rate_hz or ""),
        "lang": languages[0] if len(languages) == 1 else "multilingual",
        "pytorch": meta.torch,
        "espnet": meta.espnet,
        "valid": "true",
    }
    # No column for speakers or this package; the zoo knows several models without a commit.
    return {column: values.get(column, "") for column in COLUMNS}


def table_lines(entry: dict[str, str]) -> str:
    """The table's head and a model's line, as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerow(entry)
    return text.getvalue()
