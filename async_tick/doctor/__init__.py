"""The doctor: looks at settings, servers and workers, and says what would hurt, each with the next command.

It changes nothing and starts nothing. What does not answer is itself a finding.
"""

from async_tick.doctor.examination import examine
from async_tick.doctor.finding import Finding, Level, could_look, worst

__all__ = ["Finding", "Level", "could_look", "examine", "worst"]
