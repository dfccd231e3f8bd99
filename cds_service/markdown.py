"""Text from outside made harmless inside GitHub-flavoured Markdown.

Clients render a card's `detail` as Markdown and some let raw HTML through, so whatever did not come from a manifest is
escaped: markup characters by a backslash, angle brackets and ampersands as entities, line breaks as spaces, and the
beginnings that would start a list or a rule, or that GitHub's flavour turns into links on its own.
"""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_\[\]#|~])")
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Bullets, ordered items and underlines; a number like 6.5 or -3 is none of them and stays as it is.
_BLOCK_START = re.compile(r"^([-+](?=\s|$)|-(?=[-\s]*$)|=(?==*\s*$)|\d{1,9}(?=[.)](?:\s|$)))")
_AUTOLINK = re.compile(r"(?<=\b)(www)\.|:(?=//)", re.IGNORECASE)
MAX_CHARS = 300  # an escaped value longer than this is a mistake, not clinical information


def escape(text: str) -> str:
    """`text` as it reads, with nothing in it that Markdown or HTML would act on."""
    flat = _BREAKS.sub(" ", text)[:MAX_CHARS].strip()
    marked = _SPECIAL.sub(r"\\\1", flat)
    entities = marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    inert = _AUTOLINK.sub(lambda found: f"{found[1]}&#46;" if found[1] else "&#58;", entities)
    return _BLOCK_START.sub(lambda found: found[1] + "\\" if found[1][0].isdigit() else "\\" + found[1], inert)
