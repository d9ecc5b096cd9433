"""Text that is markup already, and templates that escape all other text."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


class Raw(str):
    """Text that is markup already and must not be escaped."""


@functools.cache
def templates(escape: Callable[[str], Raw], tex: bool = False) -> jinja2.Environment:
    """Templates that escape every value but Raw; LaTeX has delimiters that its own syntax does not use."""
    import jinja2

    marks: dict[str, str] = {}
    if tex:
        marks = {"block_start_string": "<%", "block_end_string": "%>", "variable_start_string": "<<"}
        marks |= {"variable_end_string": ">>", "comment_start_string": "<#", "comment_end_string": "#>"}
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda part: part if isinstance(part, Raw) else escape(str(part)),
        **marks,  # type: ignore[arg-type]
    )
