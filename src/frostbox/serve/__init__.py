"""`frostbox serve`: a detector behind a page and an HTTP interface, for one machine.

The page (Gradio) and every other client ask the same door, `POST /predict`: one set of limits, one
queue, one set of figures. It needs the extra `serve`.
"""
