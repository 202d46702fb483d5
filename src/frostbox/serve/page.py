"""The page: Gradio's picture (file, camera, clipboard) and slider, boxes by page/viewer.js.

The browser draws and filters, and asks /predict like any other client. Gradio calls no function of
Python, and only what the page loads gets past guard.py.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI

from frostbox.serve.limits import Limits

FLOOR = 0.05  # the page asks for all detections from this score on
_FORGET = 600  # seconds after which an uploaded picture is removed
_FONTS = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")


def quiet_gradio(uploads: Path) -> None:
    """Tell Gradio, before it is imported first, where to put pictures, and to call nobody."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(uploads))


def mount_page(app: FastAPI, threshold: float, limits: Limits) -> None:
    """Put the page at the root of an application.

    Args:
        threshold: where the slider stands at first.
    """
    import gradio as gr

    def fixed(name: str, script: str | None = None, **options: str) -> None:
        gr.HTML(html_template=_text(name), js_on_load=script, apply_default_css=False, **options)

    with gr.Blocks(
        title="frostbox", analytics_enabled=False, delete_cache=(_FORGET // 10, _FORGET)
    ) as blocks:
        fixed("about.html")
        with gr.Row():
            with gr.Column(min_width=300):
                picture = gr.Image(
                    label="Picture", sources=["upload", "webcam", "clipboard"], type="filepath",
                    image_mode=None, height=300, buttons=[], elem_id="picture",
                )  # fmt: skip
                gr.HTML(
                    html_template=_text("examples.html"), js_on_load=None, apply_default_css=False
                )
            with gr.Column(min_width=300, scale=2):
                slider = gr.Slider(
                    FLOOR, 1, max(FLOOR, threshold), step=0.01, label="Lowest score shown",
                    buttons=[], elem_id="threshold",
                )  # fmt: skip
                fixed("viewer.html", _text("viewer.js"), elem_id="viewer")
        picture.change(None, [picture], js="(picture) => window.frostbox?.open(picture)")
        slider.change(None, [slider], js="(score) => window.frostbox?.threshold(score)")
    gr.mount_gradio_app(
        app, blocks, "/", theme=gr.themes.Default(font=_FONTS, font_mono=("ui-monospace",)),
        css=_text("viewer.css"), footer_links=[], run_history=False, ssr_mode=False,
        max_file_size=limits.max_body, allowed_paths=[], blocked_paths=[], show_error=False,
        enable_monitoring=False, pwa=False, mcp_server=False,
    )  # fmt: skip


def _text(name: str) -> str:
    return (files("frostbox.serve") / "page" / name).read_text(encoding="utf-8")
