"""The boundary: makes an unedited legacy function comparable.

The parent side is `child.LegacyProcess`; the process it starts (`python -m tickover.host`) installs adapters at the
doors through which a tick reaches the world, before it imports the legacy module, and reports what went through them.
"""

from tickover.boundary.observation import (
    Late,
    LegacyObservation,
    LegacyRequest,
    Mode,
    ObservedEffect,
    Outcome,
    RoundTrip,
    StepObservation,
)

__all__ = [
    "Late",
    "LegacyObservation",
    "LegacyRequest",
    "Mode",
    "ObservedEffect",
    "Outcome",
    "RoundTrip",
    "StepObservation",
]
