"""Keeping passwords out of whatever is shown or logged."""

from __future__ import annotations

import logging
import re

HIDDEN = "***"

# The password runs to the last @ before white space or a quote: people put unescaped @, / and : there. What looks
# like a further URL may be part of it too; to hide an address too much is better than to show a password.
_URL_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@'\"]*):(?P<password>[^\s'\"]*)@")
# A password as a parameter: of a URL's query, of a libpq string, of a JSON document or of a Python dict.
_PARAMETER = re.compile(
    r"(?i)(?P<head>\b(?:pg|ssl)?password['\"]?\s*[=:]\s*)(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^&\s'\",;}]+)"
)


def redact_url(text: str) -> str:
    """The text with every password in it replaced by `***`: those of URLs, and those given as a parameter."""
    hidden = _URL_PASSWORD.sub(lambda match: f"{match['head']}:{HIDDEN}@" if match["password"] else match[0], text)
    return _PARAMETER.sub(lambda match: match["head"] + HIDDEN, hidden)


class RedactingFormatter(logging.Formatter):
    """A log formatter that hides passwords in messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without any password."""
        return redact_url(super().format(record))
