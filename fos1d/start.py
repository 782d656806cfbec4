"""The three ways to start: to stay, to make one pass, to remove everything."""

from __future__ import annotations

from fos1d.daemon import Daemon
from fos1d.equipment import kernel_of, options_of
from fos1d.kinds.admission import Admission
from fos1d.reconcile import Memory, enforce
from fos1d.resident import be_thrifty
from fos1d.settings import Settings
from fos1d.source.lastgood import LastGood
from fos1d.source.lock import only_one


def run(settings: Settings) -> int:
    """Run the daemon; return its exit code."""
    be_thrifty()
    with only_one(settings.paths.state):
        return Daemon(settings).run()


def once(settings: Settings) -> int:
    """Make one pass and say what came of it: 0 if all is Ready, 3 if a manifest is invalid."""
    with only_one(settings.paths.state):
        world = Daemon(settings).once()
    for finding in world.findings:
        print(finding)
    for status in world.not_ready:
        print(f"{status.id} {status.ready.condition.reason}: {status.ready.condition.message}")
    print(world.error or world.summary())
    if any(finding.severity == "error" for finding in world.findings):
        return 3
    return 1 if world.not_ready or world.error or world.source.error else 0


def purge(settings: Settings) -> int:
    """Remove every kernel object of ours, and what was kept to put it back."""
    with only_one(settings.paths.state):
        kernel = kernel_of(settings)
        report = enforce("", Admission({}), Memory(), kernel, options_of(settings), 0.0)
        kernel.purge()
        LastGood(settings.paths.state).save([])
    left = [f"{key}: {refusal.message}" for key, refusal in report.facts.refusals.items()]
    for line in left:
        print(line)
    print(f"{len(report.outcomes) - len(left)} objects removed")
    return 1 if left else 0
