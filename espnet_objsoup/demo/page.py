# SPDX-License-Identifier: Apache-2.0
"""The page. Imported when a demo is asked for: Gradio is an optional package."""

import logging
from collections.abc import Sequence
from typing import Any

import gradio as gr

from espnet_objsoup.demo.answers import Answerer
from espnet_objsoup.demo.choices import GUESS, spoken, targets, tasks

_KEPT_S = 3600
_DELETED_EVERY_S = 600


def build_page(answer: Answerer, objectives: Sequence[str], title: str) -> gr.Blocks:
    """Page of a model.

    Args:
        answer: recognises and translates.
        objectives: of the model.
        title: name of the model.
    """
    known = tasks(objectives)
    first = known[0][1]
    with gr.Blocks(
        title="objsoup demo",
        analytics_enabled=False,
        delete_cache=(_DELETED_EVERY_S, _KEPT_S),
    ) as page:
        gr.Markdown(f"# {title}\nRecognition and translation; objectives: {', '.join(objectives)}")
        with gr.Row():
            with gr.Column():
                audio = gr.Audio(
                    sources=["upload", "microphone"], type="filepath",
                    label="Audio", elem_id="audio", buttons=["download"],
                )  # fmt: skip
                task = gr.Radio(known, value=first, label="Task", elem_id="task")
                lang = gr.Dropdown(
                    spoken(objectives, first), value=GUESS, label="Spoken language", elem_id="lang"
                )
                target = gr.Dropdown(
                    **_target_choices(objectives, first, GUESS),
                    label="Translate into", elem_id="target",
                )  # fmt: skip
                button = gr.Button("Go", variant="primary", elem_id="go")
            with gr.Column():
                outputs = _outputs()
        task.change(
            lambda chosen: (
                gr.Dropdown(spoken(objectives, chosen), value=GUESS),
                gr.Dropdown(**_target_choices(objectives, chosen, GUESS)),
            ),
            task, [lang, target], api_visibility="private",
        )  # fmt: skip
        lang.change(
            lambda chosen, spoken_lang: gr.Dropdown(
                **_target_choices(objectives, chosen, spoken_lang)
            ),
            [task, lang], target, api_visibility="private",
        )  # fmt: skip
        button.click(
            lambda *choices: _answered(answer, *choices),
            [audio, task, lang, target], outputs, api_visibility="private",
        )  # fmt: skip
    return page


def _outputs() -> list[Any]:
    return [
        gr.Textbox(label="Text", lines=3, elem_id="text", buttons=["copy"]),
        gr.Markdown(elem_id="summary"),
        gr.Dataframe(
            headers=["rank", "score", "per token", "text"], label="Hypotheses",
            elem_id="hypotheses", interactive=False, wrap=True, buttons=["copy"],
            column_widths=["10%", "15%", "15%", "60%"],
        ),
        gr.Dataframe(
            headers=["word", "start (s)", "end (s)"], buttons=["copy"], label="Words",
            elem_id="words", interactive=False, max_height=300,
        ),
        gr.Plot(show_label=False, elem_id="plot", buttons=[]),
    ]  # fmt: skip


def _target_choices(objectives: Sequence[str], task: str, lang: str) -> dict[str, Any]:
    """Properties of the list of target languages."""
    found = targets(objectives, task, lang)
    return {
        "choices": found,
        "value": found[0][1] if found else None,
        "visible": bool(found),
    }


def _answered(
    answer: Answerer, path: str | None, task: str, lang: str, target: str | None
) -> list[Any]:
    """Values of the outputs.

    Raises:
        gr.Error: shown on the page.
    """
    if path is None:
        raise gr.Error("Record or upload audio first.", print_exception=False)
    try:
        found = answer(path, task, lang, target)
    except (ValueError, OSError) as err:
        # Its name is one that Gradio made up.
        message = str(err).removeprefix(f"{path}: ")
        raise gr.Error(message, print_exception=False, duration=None) from err
    except RuntimeError as err:
        logging.exception("the model failed")
        raise gr.Error(f"The model failed: {err}", print_exception=False, duration=None) from err
    return [
        found.text,
        found.summary,
        found.hypotheses,
        gr.Dataframe(found.words or [], visible=found.words is not None),
        gr.Plot(found.plot, visible=found.plot is not None),
    ]
