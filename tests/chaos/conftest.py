"""Seeds of chaos: drawn anew each time, unless one is named to have that run again."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture
def seed() -> int:
    """CHAOS_SEED, else a new one."""
    return int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1, 10**6))
