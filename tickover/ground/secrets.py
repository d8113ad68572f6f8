"""Keeping passwords out of whatever is shown or logged."""

from __future__ import annotations

import re

_URL_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*):(?P<password>[^\s/]*)@")
_QUERY_PASSWORD = re.compile(r"(?i)(?P<head>[?&\s]password=)[^&\s'\"]+")


def redact_url(text: str) -> str:
    """The text with the password of each URL in it replaced by `***`."""
    hidden = _URL_PASSWORD.sub(lambda match: f"{match['head']}:***@" if match["password"] else match[0], text)
    return _QUERY_PASSWORD.sub(lambda match: f"{match['head']}***", hidden)
