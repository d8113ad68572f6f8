"""What a worker does with hints that it holds when the connection to Redis is lost: nothing.

Kombu would give them back, and later acknowledge them, over the channel that was lost, and fails on that with errors
which end the worker, or leave one that neither works nor ends. Hints need neither: each is sent again.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis, virtual


class HintQoS(redis.QoS):
    """Keeps count of the messages of one channel; one whose channel is gone is forgotten."""

    restore_at_shutdown = False

    def ack(self, delivery_tag: Any) -> None:
        """Acknowledge a message, if its channel is still there."""
        if self.channel.closed or self.channel.connection is None:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
        else:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]


def install() -> None:
    """Have all Redis channels of this process keep count this way."""
    redis.Channel.QoS = HintQoS
