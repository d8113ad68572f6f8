"""psycopg2, if legacy uses it: its statements go to a server in C, unseen by any hook, so a connection is named."""

from __future__ import annotations

import functools
import sys
from typing import Any

from tickover.boundary.session import session


def install() -> list[str]:
    """Name connections of psycopg2 as unobserved, if it is imported. Returns the names of what is watched: none."""
    module: Any = sys.modules.get("psycopg2")
    if module is not None:
        real = module.connect

        @functools.wraps(real)
        def connect(*args: Any, **kwargs: Any) -> Any:
            session.unobserved("psycopg2: row changes on a PostgreSQL server")
            return real(*args, **kwargs)

        module.connect = connect
    return []
