"""What the API refuses, in the shape of Kubernetes' Status."""

from __future__ import annotations

from collections.abc import Mapping

REASONS: Mapping[int, str] = {
    400: "BadRequest",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    411: "LengthRequired",
    413: "RequestEntityTooLarge",
    429: "TooManyRequests",
    431: "RequestHeaderFieldsTooLarge",
    500: "InternalError",
    501: "NotImplemented",
    503: "ServiceUnavailable",
    504: "Timeout",
    505: "HTTPVersionNotSupported",
}


class ApiRefusal(Exception):
    """A request that is not granted: HTTP code, and a message that says what to do."""

    def __init__(self, code: int, message: str, about: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.about = dict(about or {})

    def to_json(self) -> dict[str, object]:
        """Return the Kubernetes shape."""
        return failure(self.code, str(self), self.about)


def failure(code: int, message: str, about: Mapping[str, str] | None = None) -> dict[str, object]:
    """Return a Status object that says what failed."""
    status: dict[str, object] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": REASONS.get(code, "Unknown"),
    }
    if about:
        status["details"] = dict(about)
    return {**status, "code": code}
