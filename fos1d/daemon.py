"""The daemon: what wakes a pass, one pass at a time, and what is said about it.

Stopping it, by whatever means, changes nothing in the kernel.
"""

from __future__ import annotations

import math
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import FrameType

from fos1d.equipment import kernel_of, options_of, place_of, places_of
from fos1d.errors import Fos1Error, KernelError, SourceError
from fos1d.explain import explain
from fos1d.housekeeping import SETTLED_S, SWEEP_S, Housekeeping
from fos1d.inquiry import details_of, plan_view, snapshot_of
from fos1d.kernel.monitor import LinkMonitor, PinMonitor
from fos1d.kernel.policy_events import PolicyEvents
from fos1d.kernel.workloads.watch import WorkloadWatch
from fos1d.kinds.admission import Admission
from fos1d.model.identity import ResourceId
from fos1d.model.packet import LoggedPacket
from fos1d.narration import is_news, narrate, remarks_by_resource, revision_of, world_after
from fos1d.nat_inquiry import flush_translations, translations
from fos1d.reconcile import Memory, PassReport, enforce, read
from fos1d.report.api import ApiServer
from fos1d.report.desk import Details, NatAnswer, NatQuery, PlanView, Revision
from fos1d.report.details import DetailFiles
from fos1d.report.events import Event, Events, EventType
from fos1d.report.explanation import Explanation, Question
from fos1d.report.journal import Log
from fos1d.report.ledger import Ledger
from fos1d.report.notify import Notifier
from fos1d.report.packets import packet_event
from fos1d.report.server import Options as ApiOptions
from fos1d.report.status import SourceStatus, World, statuses
from fos1d.resident import Giver, settle
from fos1d.settings import Settings
from fos1d.source.follow import follow
from fos1d.source.git import GitSource
from fos1d.source.lastgood import LastGood
from fos1d.source.open import open_source, read_once
from fos1d.wakes import Wakes

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
CONTESTED_PAUSE_S = 5.0


class Daemon:
    """One daemon: the loop's own state, and the desk at which the API asks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._options = options_of(settings)
        details = DetailFiles(settings.paths.runtime / "details")
        self._log = Log(node=settings.node.name, details=details)
        self._events = Events(time.time, self._log.heard)
        self._notifier = Notifier()
        self._wakes = Wakes()
        self._giver = Giver()
        self._ledger = Ledger(settings.paths.state)
        self._last_good = LastGood(settings.paths.state)
        self._memory = Memory(in_force=self._last_good.load())
        self._kept = self._memory.in_force
        self._workloads = WorkloadWatch(places_of(settings), lambda: self._wakes.wake("workload"))
        self._told: tuple[str, ...] = ()
        self._kernel = kernel_of(settings, self._workloads.workloads)
        self._source = open_source(settings)
        self._follower = follow(self._source, lambda: self._wakes.wake("source"))
        self._snapshot = self._follower.snapshot
        self._links = LinkMonitor(lambda: self._wakes.wake("link"))
        self._pins = PinMonitor(self._kernel.bpffs, lambda: self._wakes.wake("pin"))
        self._packets = PolicyEvents(self._kernel.bpffs, self._packet_logged, self._packets_lost)
        self._world = World(node=settings.node.name, started_s=time.time())
        self._world_changed = threading.Condition()
        self._confirmed = ""
        self._retry_s = FIRST_RETRY_S
        self._due: dict[str, float] = {}
        self._housekeeping = Housekeeping(self._kernel, self._or_tell)
        self._stopping = threading.Event()

    # The loop

    def run(self) -> int:
        """Run until told to stop; return the exit code."""
        options = ApiOptions(complain=self._log.error)
        place = self._settings.paths.runtime / "api.sock"
        api = ApiServer(place, self, str(self._log.format), options=options)
        if remark := api.start():
            self._log.warning(remark)
        self._listen()
        try:
            self.make_pass()
            self._notifier.ready(self._world.summary())
            settle()
            while not self._stopping.is_set():
                self._turn()
        finally:
            self._notifier.stopping()
            api.stop()
            self._follower.stop()
            self._links.stop()
            self._pins.stop()
            self._packets.stop()
            self._workloads.stop()
        return 0

    def _listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, lambda *_: self._wakes.wake("SIGHUP"))
        self._links.start()
        for begin in (self._pins.start, self._workloads.start, self._follower.start):
            self._or_tell(begin)

    def _or_tell(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (KernelError, SourceError) as error:
            self._tell(EventType.WARNING, error.reason, str(error))

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()
        self._wakes.wake("stop")

    def _turn(self) -> None:
        self._packets.cover()
        now = time.monotonic()
        woken = self._wakes.wait(max(0.0, min(self._due.values()) - now))
        for work in woken.work:
            work()
        self._notifier.watchdog()
        if self._stopping.is_set():
            return
        due = {what for what, when in self._due.items() if when <= time.monotonic()}
        if "sweep" in due:
            self._sweep()
        if woken.reasons or due & {"resync", "retry"}:
            self._notifier.reloading("SIGHUP" in woken.reasons)
            self.make_pass()
            self._notifier.ready(self._world.summary())
        if (interval := self._notifier.watchdog_interval_s()) is not None:
            self._due["watchdog"] = time.monotonic() + interval

    def _sweep(self) -> None:
        self._due["sweep"] = time.monotonic() + self._housekeeping.sweep()
        self._giver.give_back()

    def once(self) -> World:
        """Make one pass without watching anything; return what is known then."""
        self._snapshot = lambda: read_once(self._source)
        self._workloads.look()
        self.make_pass()
        self._workloads.stop()
        return self._world

    # A pass

    def make_pass(self) -> None:
        """Make one pass and say what came of it; nothing that goes wrong ends the daemon."""
        self._pass()
        self._or_tell(self._pins.cover)
        self._giver.give_back()

    def _pass(self) -> None:
        began = time.monotonic()
        sweep_due = self._due.get("sweep", began + SWEEP_S)
        self._due = {"resync": began + self._settings.reconcile.resync.total_seconds()}
        self._due["sweep"] = sweep_due
        if self._is_suspended():
            self._publish(replace(self._world, suspended_until_s=self._suspended_until_s()))
            return
        source, admission = self._read()
        self._tell_of_workloads()
        try:
            report = enforce(
                source.revision, admission, self._memory, self._kernel, self._options, began
            )
        except Fos1Error as error:
            self._failed(source, error)
            return
        except Exception as error:  # the one place: a bug must not stop the watching
            self._log.exception("a pass ended in a bug; the kernel is as it was left", error)
            self._failed(source, Fos1Error(f"{type(error).__name__}: {error}"))
            return
        self._passed(source, report, began)

    def _read(self) -> tuple[SourceStatus, Admission]:
        """Read the source; where that fails, what is in force stays."""
        before, place = self._world.source, place_of(self._settings)
        stay = Admission(dict(self._memory.in_force))
        try:
            snapshot = self._snapshot()
            confirmed = snapshot.revision == self._confirmed
            if not confirmed:
                self._confirmed = ""
            admission = read(snapshot, self._memory, self._options, confirmed)
        except SourceError as error:
            if str(error) != before.error:
                self._tell(EventType.WARNING, error.reason, str(error))
            return replace(before, error=str(error), place=place), stay
        return SourceStatus(snapshot.revision, "", time.time(), place), admission

    def _passed(self, source: SourceStatus, report: PassReport, began: float) -> None:
        took, now = time.monotonic() - began, time.time()
        about = remarks_by_resource(report)
        resources = statuses(report.facts, self._memory.in_force, about, self._world.resources, now)
        world = replace(world_after(report, self._world, now), last_pass_took_s=took, source=source)
        world = replace(world, resources=resources, drift_total=self._memory.drift.total)
        for event in narrate(report, self._world, world):
            self._events.add(event)
        self._keep("the history", lambda: self._note_revision(report, world))
        if self._memory.in_force != self._kept:
            self._keep("what is in force", self._save)
        self._publish(world)
        self._schedule_retry(report)
        if self._housekeeping.is_due_for(self._memory.nat_view.digest):
            self._due["sweep"] = time.monotonic() + SETTLED_S

    def _save(self) -> None:
        self._last_good.save(self._memory.in_force.values())
        self._kept = self._memory.in_force

    def _keep(self, what: str, work: Callable[[], None]) -> None:
        """Write to the state folder; a full disk there takes nothing from the pass."""
        try:
            work()
        except (OSError, SourceError) as error:
            message = f"{what} cannot be kept for the next start: {error}"
            self._tell(EventType.WARNING, "StateNotKept", message)

    def _failed(self, source: SourceStatus, error: Fos1Error) -> None:
        self._tell(EventType.WARNING, error.reason, str(error))
        self._publish(replace(self._world, source=source, error=str(error)))
        self._retry_later()

    def _schedule_retry(self, report: PassReport) -> None:
        if report.facts.contested:
            self._due["retry"] = time.monotonic() + CONTESTED_PAUSE_S
        elif any(refusal.passes for refusal in report.facts.refusals.values()):
            self._retry_later()
        else:
            self._retry_s = FIRST_RETRY_S

    def _retry_later(self) -> None:
        self._due["retry"] = time.monotonic() + self._retry_s * random.uniform(0.8, 1.2)
        self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)

    def _note_revision(self, report: PassReport, world: World) -> None:
        newest = next(iter(self._ledger.history()), None)
        if report.revision and is_news(report, world, newest):
            author, subject = self._describe(report.revision)
            self._ledger.add(revision_of(report, world, author, subject))

    def _describe(self, revision: str) -> tuple[str, str]:
        if not isinstance(self._source, GitSource):
            return "", ""
        try:
            commit = self._source.describe(revision)
        except SourceError:
            return "", ""
        return commit.author, commit.subject

    def _tell(self, kind: EventType, reason: str, message: str) -> None:
        self._events.add(Event(kind, reason, message, revision=self._world.source.revision))

    def _packet_logged(self, packet: LoggedPacket) -> None:
        self._events.add(packet_event(packet, self._memory.policy_view))

    def _packets_lost(self, count: int) -> None:
        message = f"{count} packets were to be logged and found no room"
        self._tell(EventType.WARNING, "PacketsNotLogged", message)

    def _tell_of_workloads(self) -> None:
        """Tell what is wrong with what says who is who, once each time that it comes."""
        before, self._told = self._told, self._workloads.problems()
        for problem in self._told:
            if problem not in before:
                self._tell(EventType.WARNING, "WorkloadSource", problem)

    def _publish(self, world: World) -> None:
        with self._world_changed:
            self._world = replace(world, version=self._world.version + 1)
            self._world_changed.notify_all()
        self._notifier.status(self._world.summary())

    # Suspension

    def _suspended_until_s(self) -> float | None:
        return self._ledger.suspended_until_s()

    def _is_suspended(self) -> bool:
        until = self._suspended_until_s()
        if until is None:
            return False
        if until <= time.time():
            self._keep("the end of the suspension", self._ledger.resume)
            return False
        if until != math.inf:
            self._due["resync"] = time.monotonic() + until - time.time()
        return True

    # The desk

    def world(self) -> World:
        """Return what is known now."""
        return self._world

    def wait_for_change(self, version: int, timeout_s: float) -> World:
        """Return the world as soon as its version is above `version`, or after the timeout."""
        with self._world_changed:
            self._world_changed.wait_for(lambda: self._world.version > version, timeout_s)
            return self._world

    def events(self, about: ResourceId | None) -> Sequence[Event]:
        """Return the newest events, oldest first."""
        return self._events.newest(about)

    def details(self, identity: ResourceId) -> Details:
        """Ask the kernel about one resource."""
        status = self._world.resources.get(identity)
        if status is None:
            return Details()
        memory = self._memory
        return details_of(status, self._kernel.bpffs, memory.policy_view, memory.nat_view)

    def history(self) -> Sequence[Revision]:
        """Return the revisions, newest first."""
        return self._ledger.history()

    def reconcile(self, wait: bool, timeout_s: float) -> World:
        """Ask for a pass; with `wait`, return after it."""
        if not wait:
            self._wakes.wake("request")
            return self._world
        self._wakes.submit(self.make_pass).result(timeout_s)
        return self._world

    def plan(self, files: Mapping[str, bytes] | None, timeout_s: float) -> PlanView:
        """Plan the given files, or the source as it is; change nothing."""
        view: PlanView = self._wakes.submit(lambda: self._plan(files)).result(timeout_s)
        return view

    def _plan(self, files: Mapping[str, bytes] | None) -> PlanView:
        snapshot = self._snapshot() if files is None else snapshot_of(files)
        return plan_view(snapshot, self._memory, self._kernel, self._options)

    def explain(self, question: Question, timeout_s: float) -> Explanation:
        """Say what the loaded programs do to a packet; change nothing.

        Raises ValueError for an interface or workload that is not there.
        """
        work = self._wakes.submit(lambda: explain(question, self._memory, self._kernel))
        explanation: Explanation = work.result(timeout_s)
        return explanation

    def translations(self, query: NatQuery) -> NatAnswer:
        """List sessions and bindings."""
        return translations(query, self._kernel.bpffs, self._memory.nat_view)

    def flush_translations(self, query: NatQuery) -> NatAnswer:
        """Forget sessions and bindings."""
        return flush_translations(query, self._kernel.bpffs, self._memory.nat_view)

    def suspend(self, seconds: float | None) -> World:
        """Stop making passes, for a while or until resumed."""
        self._ledger.suspend(math.inf if seconds is None else time.time() + seconds)
        self._tell(EventType.NORMAL, "Suspended", "passes are suspended")
        return self.reconcile(True, 60.0)

    def resume(self) -> World:
        """Make passes again, beginning now."""
        self._ledger.resume()
        self._tell(EventType.NORMAL, "Resumed", "passes are made again")
        return self.reconcile(True, 60.0)

    def confirm(self) -> World:
        """Let the revision that waits for a person go on.

        Raises ValueError if none waits.
        """
        if not self._world.held:
            raise ValueError("no revision waits for a confirmation")
        self._confirmed = self._world.source.revision
        return self.reconcile(True, 60.0)
