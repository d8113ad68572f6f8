"""Doors that no adapter watches: seen by an audit hook, and listed by name."""

from __future__ import annotations

import os
import sys
from typing import Any

from tickover.boundary import files
from tickover.boundary.session import current, guarded, is_adapter_at_work

# A connection made by one of these is seen by an adapter.
_WATCHED_CLIENTS = frozenset({"http.client", "urllib3.connection"})

_PROCESSES = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn"}
)

# How many frames up a watched client is looked for.
_DEPTH = 40


def install() -> None:
    """Install the hook; it stays for the life of the process."""
    handlers = {
        "open": _opened,
        "socket.connect": _connected,
        "socket.sendto": _connected,
        "os.truncate": _truncated,
        "os.link": _linked,
        "os.symlink": _linked,
        **dict.fromkeys(_PROCESSES, _started),
    }

    def hook(event: str, args: tuple[Any, ...]) -> None:
        handler = handlers.get(event)
        if handler is not None:
            handler(event, args)

    sys.addaudithook(hook)


def _opened(_: str, args: tuple[Any, ...]) -> None:
    files.opening(args[0], args[2])


def _truncated(_: str, args: tuple[Any, ...]) -> None:
    files.opening(args[0], os.O_RDWR)


def _connected(_: str, args: tuple[Any, ...]) -> None:
    book = current()
    if book is None or is_adapter_at_work():
        return
    with guarded("audit"):
        frame: Any = sys._getframe(2)
        for _depth in range(_DEPTH):
            if frame is None:
                break
            if frame.f_globals.get("__name__", "") in _WATCHED_CLIENTS:
                return
            frame = frame.f_back
        address = args[1]
        name = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
        book.recorder.unobserved[f"socket {name}"] = None


def _linked(event: str, _: tuple[Any, ...]) -> None:
    book = current()
    if book is not None:
        book.recorder.unobserved[event] = None


def _started(event: str, args: tuple[Any, ...]) -> None:
    book = current()
    if book is None:
        return
    with guarded("audit"):
        book.recorder.unobserved["os.fork" if event == "os.fork" else f"process {_command(args)}"] = None


def _command(args: tuple[Any, ...]) -> str:
    command = args[0] if args and args[0] else (args[1] if len(args) > 1 else "?")
    if isinstance(command, list | tuple):
        command = command[0] if command else "?"
    text = os.fsdecode(command) if isinstance(command, str | bytes) else str(command)
    return os.path.basename((text.split() or ["?"])[0])
