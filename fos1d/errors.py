"""The error tree. Each class has a `reason` (PascalCase, becomes a condition) and `retry`.

    Fos1Error
    ├── SettingsError          fos1d.toml cannot be used
    ├── SourceError            the manifests cannot be read                     (retried)
    │   └── SnapshotChanged    they changed while they were being read          (retried at once)
    ├── ListError              a line of an address list is not an address
    ├── PolicyLimit            rules are more than the data path holds
    ├── KernelError            the kernel refused an action                     (retried)
    │   ├── VerifierError      it refused a program; carries the verifier's log (not retried)
    │   ├── Unsupported        it lacks a feature, named                        (not retried)
    │   ├── PermissionMissing  we lack a right, named                           (retried)
    │   ├── HeldByOther        something that is not ours is in the way         (retried)
    │   ├── SelfCheckFailed    a loaded program judged a canned packet wrongly  (not retried)
    │   └── Waiting            what it needs is not there yet                   (retried)
    └── SourceProgramError     a user's own program cannot be built or found    (not retried)

A message says what, where, and what to do. What is wrong in a manifest is no exception but a
`Diagnostic` value (model/diagnostic.py), since all of them are reported together.
"""

from __future__ import annotations

from typing import ClassVar


class Fos1Error(Exception):
    """Base of everything that this project raises on purpose."""

    reason: ClassVar[str] = "Error"
    retry: ClassVar[bool] = False


class SettingsError(Fos1Error):
    """The settings file has a wrong key or value."""

    reason = "InvalidSettings"


class SourceError(Fos1Error):
    """The source of manifests cannot be read now."""

    reason = "SourceUnavailable"
    retry = True


class SnapshotChanged(SourceError):
    """The source changed while it was read; read it again."""

    reason = "SourceChanging"


class ListError(Fos1Error):
    """An address list has lines that are no addresses."""

    reason = "InvalidList"


class PolicyLimit(Fos1Error):
    """The rules of a direction are more than the data path holds.

    `rule` is the place of the first rule that has no room, in the order of the rules; `chain` the
    number of the direction's chain.
    """

    reason = "PolicyLimitExceeded"

    def __init__(self, limit: str, rule: int, chain: int = 0) -> None:
        super().__init__(f"more than {limit}")
        self.limit = limit
        self.rule = rule
        self.chain = chain


class KernelError(Fos1Error):
    """The kernel refused an action.

    `errno` is 0 where there is none.
    """

    reason = "KernelRefused"
    retry = True

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class VerifierError(KernelError):
    """The verifier refused a program; `log` holds all that it said."""

    reason = "VerifierRefused"
    retry = False

    def __init__(self, message: str, log: str, errno: int = 0) -> None:
        super().__init__(message, errno)
        self.log = log


class Unsupported(KernelError):
    """The kernel lacks a feature that the action needs."""

    reason = "UnsupportedByKernel"
    retry = False


class PermissionMissing(KernelError):
    """This process lacks a right that the action needs."""

    reason = "PermissionMissing"


class HeldByOther(KernelError):
    """Something that is not ours is in the place that we want."""

    reason = "ForeignObject"


class SelfCheckFailed(KernelError):
    """A loaded program gave a wrong verdict on a canned packet, so it was not attached."""

    reason = "SelfCheckFailed"
    retry = False


class Waiting(KernelError):
    """What the action needs is not there yet; its coming wakes a pass."""

    reason = "Waiting"


class SourceProgramError(Fos1Error):
    """A user's own program cannot be found, compiled or read."""

    reason = "ProgramSourceInvalid"
