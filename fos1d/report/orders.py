"""What may be asked of the daemon besides reading: POST below /fos1/v1. Blocks, as routes.py."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from fos1d.errors import Fos1Error
from fos1d.report.daemon_views import plan_of, status_of
from fos1d.report.explanation import explanation_of, question_of
from fos1d.report.http import Request, Response, as_json
from fos1d.report.nat_queries import flush_of
from fos1d.report.refusal import ApiRefusal
from fos1d.report.routes import Service
from fos1d.report.status import World

MOST_WAIT_S = 600.0
MOST_SUSPENSION_S = 366 * 86400.0
MOST_BODY_BYTES = 64 << 10
MOST_PLAN_BYTES = 96 << 20


def most_body_bytes(request: Request) -> int:
    """Return how large a request's body may be: only a plan brings files."""
    return MOST_PLAN_BYTES if request.segments == ("fos1", "v1", "plan") else MOST_BODY_BYTES


def order(request: Request, service: Service) -> Response:
    """Carry out a POST. Raises ApiRefusal."""
    try:
        return _order(request, service)
    except TimeoutError:
        raise ApiRefusal(504, "the daemon is busy with a pass: try again") from None


def _order(request: Request, service: Service) -> Response:
    match request.segments:
        case ("fos1", "v1", "reconcile"):
            return _state(_reconcile(request, service), service)
        case ("fos1", "v1", "suspend"):
            return _state(service.desk.suspend(_suspension(request)), service)
        case ("fos1", "v1", "resume"):
            return _state(service.desk.resume(), service)
        case ("fos1", "v1", "confirm"):
            return _state(_confirm(service), service)
        case ("fos1", "v1", "plan"):
            return _plan(request, service)
        case ("fos1", "v1", "explain"):
            return _explain(request, service)
        case ("fos1", "v1", "nat", "flush"):
            return as_json(flush_of(request, service.desk.flush_translations))
        case ("fos1", "v1", "rollback"):
            raise ApiRefusal(501, "rollback is not in this version: push the earlier revision")
        case _:
            raise ApiRefusal(
                405,
                f"{request.path[:200]} takes no POST: what is declared is changed in its source",
            )


def _state(world: World, service: Service) -> Response:
    return as_json(status_of(world, service.about))


def _reconcile(request: Request, service: Service) -> World:
    wait = request.asks("wait")
    timeout_s = request.seconds("timeoutSeconds", 60.0, MOST_WAIT_S)
    before = service.desk.world()
    if before.suspended_until_s is not None:
        raise ApiRefusal(409, "passes are suspended: fos1ctl resume")
    try:
        after = service.desk.reconcile(wait, timeout_s)
    except TimeoutError:
        after = before
    if wait and after.passes <= before.passes and not after.error:
        raise ApiRefusal(504, f"no pass was done within {timeout_s:g} s: fos1ctl status says more")
    return after


def _suspension(request: Request) -> float | None:
    return request.seconds("seconds", 0.0, MOST_SUSPENSION_S) or None


def _confirm(service: Service) -> World:
    try:
        return service.desk.confirm()
    except ValueError as error:
        raise ApiRefusal(409, str(error)) from error


def _plan(request: Request, service: Service) -> Response:
    timeout_s = request.seconds("timeoutSeconds", 60.0, MOST_WAIT_S)
    try:
        return as_json(plan_of(service.desk.plan(_files(request), timeout_s)))
    except Fos1Error as error:
        raise ApiRefusal(503, f"no plan can be made now: {error}") from error


def _explain(request: Request, service: Service) -> Response:
    question = question_of(request.json())
    timeout_s = request.seconds("timeoutSeconds", 60.0, MOST_WAIT_S)
    try:
        return as_json(explanation_of(service.desk.explain(question, timeout_s)))
    except ValueError as error:
        raise ApiRefusal(404, str(error)) from error
    except Fos1Error as error:
        raise ApiRefusal(503, f"the packet cannot be tried now: {error}") from error


def _files(request: Request) -> Mapping[str, bytes] | None:
    body = request.json()
    if body is None:
        return None
    files = body.get("files") if isinstance(body, dict) else None
    if not isinstance(files, dict):
        raise ApiRefusal(400, 'the body must be {"files": {path: content in base64}}, or empty')
    return {path: _decoded(path, content) for path, content in sorted(files.items())}


def _decoded(path: str, content: object) -> bytes:
    try:
        if isinstance(content, str):
            return base64.b64decode(content, validate=True)
    except binascii.Error:
        pass
    raise ApiRefusal(400, f"files: the content of {path[:200]} is not base64")
