"""Which GET gets which answer. Every function here may block, and runs in its own thread."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fos1d import __version__
from fos1d.errors import Fos1Error
from fos1d.kinds import BY_NAME, KINDS, Kind
from fos1d.model.identity import API_GROUP, API_VERSION, ResourceId
from fos1d.report import daemon_views, views
from fos1d.report.daemon_views import About
from fos1d.report.desk import Desk
from fos1d.report.documents import Documents
from fos1d.report.http import Request, Response, as_json, as_text
from fos1d.report.nat_queries import translations_of
from fos1d.report.refusal import ApiRefusal
from fos1d.report.selectors import Selector, parse_selector
from fos1d.report.status import ResourceStatus
from fos1d.report.table import asks_kernel, table_of
from fos1d.report.versions import Resources, Seen, Versions
from fos1d.report.views import Answer, labels_of, object_of

VERSION = "v1alpha1"
TABLE = ("as=table", "v=v1", "g=meta.k8s.io")
PLURALS = {kind.plural: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Service:
    """What answers are made from."""

    desk: Desk
    about: About
    clock: Callable[[], float] = time.time
    versions: Versions = field(default_factory=Versions)
    documents: Documents = field(default_factory=Documents)

    def seen(self) -> Seen:
        """Return the world as it is now."""
        return self.versions.see(self.desk.world())

    def ask(self, status: ResourceStatus) -> Answer:
        """Ask the kernel about a resource that it may know."""
        if status.accepted is None:
            return Answer()
        try:
            return Answer(self.desk.details(status.id))
        except Fos1Error as error:
            return Answer(error=str(error))


@dataclass(frozen=True, slots=True)
class Collection:
    """What a path and a query select: one kind, maybe one name space, labels, fields."""

    kind: Kind
    namespace: str | None
    selector: Selector

    def of(self, resources: Resources) -> dict[ResourceId, ResourceStatus]:
        """Return the selected resources, sorted."""
        found = {i: s for i, s in resources.items() if self._selects(i, s)}
        return dict(sorted(found.items()))

    def _selects(self, identity: ResourceId, status: ResourceStatus) -> bool:
        return (
            identity.kind == self.kind.name
            and self.namespace in (None, identity.namespace)
            and self.selector.selects(identity, lambda: labels_of(status))
        )


def collection_of(request: Request) -> Collection | None:
    """Return what a request for a list or a watch selects, None if it is for something else."""
    match request.segments:
        case ("apis", group, version, plural) if (group, version) == (API_GROUP, VERSION):
            namespace = None
        case ("apis", group, version, "namespaces", space, plural) if (group, version) == (
            API_GROUP,
            VERSION,
        ):
            namespace = space
        case _:
            return None
    query = request.query
    selector = parse_selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
    return Collection(_kind(plural), namespace, selector)


def _kind(plural: str) -> Kind:
    if plural not in PLURALS:
        known = ", ".join(sorted(PLURALS))
        raise ApiRefusal(404, f'there is no resource "{plural[:60]}"; known: {known}')
    return PLURALS[plural]


def read(request: Request, service: Service) -> Response:
    """Answer a GET. Raises ApiRefusal."""
    if collection := collection_of(request):
        return _list(request, service, collection)
    match request.segments:
        case ("apis", group, version, "namespaces", space, plural, name) if (group, version) == (
            API_GROUP,
            VERSION,
        ):
            return _one(request, service, ResourceId(_kind(plural).name, space, name))
        case ("fos1", "v1", *rest):
            return _own(request, service, rest)
        case _:
            return _discovery(request, service)


def _list(request: Request, service: Service, collection: Collection) -> Response:
    seen = service.seen()
    found = collection.of(seen.world.resources).values()
    wanted = request.asks("details")
    if wants_table(request):
        asks = asks_kernel(collection.kind.name, wanted)
        answer = service.ask if asks else lambda _: Answer()
        return as_json(table_of(collection.kind.name, found, seen, answer, service.clock()))
    items = [
        object_of(s, seen, service.documents, service.ask(s) if wanted else None) for s in found
    ]
    return as_json(
        {
            "apiVersion": API_VERSION,
            "kind": f"{collection.kind.name}List",
            "metadata": {"resourceVersion": seen.version},
            "items": items,
        }
    )


def wants_table(request: Request) -> bool:
    """Whether the client would rather have a table."""
    for choice in request.headers.get("accept", "").split(","):
        kind, *parameters = (part.strip().lower() for part in choice.split(";"))
        if kind == "application/json":
            return all(wanted in parameters for wanted in TABLE)
    return False


def _one(request: Request, service: Service, identity: ResourceId) -> Response:
    seen = service.seen()
    status = _known(seen, identity)
    if wants_table(request):
        table = table_of(identity.kind, [status], seen, service.ask, service.clock())
        return as_json(table)
    return as_json(object_of(status, seen, service.documents, service.ask(status)))


def _known(seen: Seen, identity: ResourceId) -> ResourceStatus:
    status = seen.world.resources.get(identity)
    if status is None:
        plural = BY_NAME[identity.kind].plural
        message = f'{plural}.{API_GROUP} "{identity.name}" not found'
        elsewhere = sorted(
            other.namespace
            for other in seen.world.resources
            if (other.kind, other.name) == (identity.kind, identity.name)
        )
        hint = f" in {identity.namespace}; it is in {', '.join(elsewhere)}" if elsewhere else ""
        about = {"name": identity.name, "group": API_GROUP, "kind": plural}
        raise ApiRefusal(404, message + hint, about)
    return status


def _own(request: Request, service: Service, rest: list[str]) -> Response:
    world = service.desk.world()
    match rest:
        case ["status"]:
            return as_json(daemon_views.status_of(world, service.about))
        case ["events"]:
            about = _about(request.query.get("about", ""))
            return as_json(daemon_views.events_of(service.desk.events(about), world.node))
        case ["history"]:
            return as_json(daemon_views.history_of(service.desk.history()))
        case ["details", kind, space, name]:
            status = _known(service.seen(), _identity(kind, space, name))
            return as_json(views.details_of(status, service.desk.details(status.id)))
        case ["nat"]:
            return as_json(translations_of(request, service.desk.translations))
        case _:
            raise ApiRefusal(404, f"{request.path} is not a path of this API")


def _about(text: str) -> ResourceId | None:
    if not text:
        return None
    parts = text.split("/")
    if len(parts) != 3:
        raise ApiRefusal(400, f'about: "{text[:200]}" must be Kind/namespace/name')
    return _identity(*parts)


def _identity(kind: str, space: str, name: str) -> ResourceId:
    if kind not in BY_NAME:
        raise ApiRefusal(400, f'"{kind[:60]}" is no kind; kinds: {", ".join(sorted(BY_NAME))}')
    return ResourceId(kind, space, name)


def _discovery(request: Request, service: Service) -> Response:
    group = {
        "name": API_GROUP,
        "versions": [{"groupVersion": API_VERSION, "version": VERSION}],
        "preferredVersion": {"groupVersion": API_VERSION, "version": VERSION},
    }
    match request.segments:
        case ("healthz",) | ("livez",):
            return as_text("ok")
        case ("readyz",):
            done = service.desk.world().passes > 0
            return as_text("ok") if done else as_text("the first pass is not done yet", 503)
        case ("version",):
            return as_json(_version())
        case ("api",):
            return as_json({"kind": "APIVersions", "versions": []})
        case ("apis",):
            return as_json({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})
        case ("apis", name) if name == API_GROUP:
            return as_json({"kind": "APIGroup", "apiVersion": "v1", **group})
        case ("apis", name, version) if (name, version) == (API_GROUP, VERSION):
            return as_json(_resource_list())
        case _:
            raise ApiRefusal(404, f"{request.path[:200]} is not a path of this API")


def _version() -> dict[str, str]:
    major, minor, _ = __version__.split(".", 2)
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{__version__}",
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


def _resource_list() -> dict[str, object]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": API_VERSION,
        "resources": [
            {
                "name": kind.plural,
                "singularName": kind.singular,
                "namespaced": True,
                "kind": kind.name,
                "verbs": ["get", "list", "watch"],
                "shortNames": [kind.short],
            }
            for kind in KINDS
        ],
    }
