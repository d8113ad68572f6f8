"""Every error that Tickover raises on purpose, under one root.

A message says what happened, on what, and the next command to run. Facts stand in attributes.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    NOT_READY = 1
    USAGE = 2
    INFRASTRUCTURE = 3
    KEEP_RUNNING = 4


class TickoverError(Exception):
    """Root of all errors raised on purpose; `exit_code` is what a command ends with."""

    exit_code: ExitCode = ExitCode.USAGE


class ConfigurationError(TickoverError):
    """A setting, option or file is wrong; nothing was started."""


class InfrastructureError(TickoverError):
    """A server cannot be reached or used."""

    exit_code = ExitCode.INFRASTRUCTURE


class WorkflowError(ConfigurationError):
    """A workflow or one of its steps is not well formed."""


class UnknownNeed(WorkflowError):
    """A step needs a step that the workflow does not have."""


class CyclicNeeds(WorkflowError):
    """Steps need each other in a circle."""


class DuplicateStep(WorkflowError):
    """Two steps of a workflow have one name."""


class WorkloadNotFound(ConfigurationError):
    """A workload's `module:name` cannot be loaded."""


class ContractError(TickoverError):
    """A step broke the contract; retrying cannot mend it."""


class UndeclaredNeed(ContractError):
    """A step read the result of a step that it does not declare in `needs`.

    This is how a hidden dependency is found.
    """

    def __init__(self, step: str, read: str, needs: tuple[str, ...]) -> None:
        self.step, self.read, self.needs = step, read, needs
        declared = ", ".join(needs) or "nothing"
        super().__init__(
            f"step {step!r} read the result of {read!r}, but declares only {declared}; "
            f"add {read!r} to the needs of {step!r}, or stop reading it"
        )


class NotCanonical(ContractError):
    """A value has no canonical JSON form; `path` says where, `reason` why."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path or 'the value'}: {reason}")


class ResultTooLarge(ContractError):
    """A result, an effect or a state is over the size limit."""

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        self.what, self.size_bytes, self.limit_bytes = what, size_bytes, limit_bytes
        super().__init__(
            f"{what} is {size_bytes} bytes of canonical JSON, over the limit of {limit_bytes}; "
            "store the bulk elsewhere and return a reference, or raise TICKOVER_MAX_RESULT_BYTES"
        )


class ReadOnly(ContractError, TypeError):
    """A step tried to change the state or a result that it was given."""


class StepTimeout(TickoverError):
    """A step ran into its limit."""

    exit_code = ExitCode.INFRASTRUCTURE


class PortError(TickoverError):
    """A call of a port failed; live and replayed calls raise the same.

    `kind` is the short name of what went wrong ("http", "connection", "timeout", "decode"), `status` an HTTP
    status or None.
    """

    exit_code = ExitCode.INFRASTRUCTURE

    def __init__(self, kind: str, message: str, status: int | None = None) -> None:
        self.kind, self.message, self.status = kind, message, status
        super().__init__(f"{kind}: {message}" if status is None else f"{kind} {status}: {message}")


class TapeMiss(PortError):
    """A call stands on no tape and must not be made live."""

    def __init__(self, port: str, method: str) -> None:
        super().__init__("tape-miss", f"{port}.{method} is not on the tape and live calls are forbidden here")
