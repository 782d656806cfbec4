"""`fos1ctl repo init`, and what the hook that it installs runs on a push.

The hook refuses rather than lets through: a revision that is not valid, one that cannot be read, a
deletion of the branch, and also whatever its own failure leaves unjudged (the script around it
says so). No one is locked out by that: other branches pass, and `git update-ref` on the router
moves the served one without the hook.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fos1d.cli.client import DEFAULT_CONFIG
from fos1d.errors import SettingsError, SourceError
from fos1d.model.diagnostic import errors_of
from fos1d.model.snapshot import Snapshot
from fos1d.source.git import GitSource, quarantine
from fos1d.source.repository import Repository, init_repository, served_branch

if TYPE_CHECKING:  # it brings pydantic along
    from fos1d.settings import Settings

FINE, UNUSABLE, INVALID, REFUSED = 0, 2, 3, 5
_HOOK_S = 120
_PLAN_S = 10.0
_HEADS = "refs/heads/"


@dataclass(frozen=True, slots=True)
class Served:
    """What of a repository the daemon reads."""

    branch: str
    subpath: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    """A line of a pre-receive hook's input; `new` is all zeros where the ref is deleted."""

    ref: str
    new: str

    @property
    def deletes(self) -> bool:
        """Whether the ref is deleted."""
        return not self.new.strip("0")


def register(subparsers: Any) -> None:
    """Add `repo init` and the hidden `hook pre-receive` to fos1ctl."""
    repo = subparsers.add_parser("repo", help="the Git repository that operators push to")
    init = repo.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "init", help="make it, or check and repair it"
    )
    init.add_argument("path", type=Path, metavar="PATH")
    init.add_argument("--branch", default="main", help="the branch to serve (default: main)")
    init.add_argument("--config", type=Path, metavar="FILE", help="settings that the hook reads")
    init.set_defaults(func=run_init)
    hook = subparsers.add_parser("hook")
    pre_receive = hook.add_subparsers(required=True).add_parser("pre-receive")
    pre_receive.set_defaults(func=run_pre_receive)


def run_init(args: argparse.Namespace) -> int:
    """Make or repair a repository and say how to use it."""
    config = args.config or _config_path()
    exports = {"FOS1_CONFIG": str(config.absolute())} if config else {}
    try:
        repository = init_repository(args.path, args.branch, exports=exports)
    except SourceError as error:
        print(f"fos1ctl: {error}", file=sys.stderr)
        return REFUSED
    print(_introduction(repository))
    return FINE


def _introduction(repository: Repository) -> str:
    path, branch = repository.path, repository.branch
    done = "\n".join(f"  {step}" for step in repository.done) or "  nothing had to be done"
    return f"""{path}
{done}

Settings for fos1d ([source] in /etc/fos1d/fos1d.toml):

  [source]
  type = "git"
  path = "{path}"
  branch = "{branch}"

To push to it (the user must be able to write to it; it belongs to {path.owner()}):

  git remote add router ssh://{path.owner()}@{socket.gethostname()}{path}
  git push router {branch}"""


def run_pre_receive(args: argparse.Namespace) -> int:
    """Judge the pushed refs that standard input names, in the repository that git ran us in."""
    signal.alarm(_HOOK_S)
    repository = Path(os.environ.get("GIT_DIR", ".")).resolve()
    try:
        served = _served(repository, _config_path())
        codes = [_judge(repository, served, update) for update in updates_of(sys.stdin)]
    except SettingsError as error:
        _say(str(error))
        return UNUSABLE
    except SourceError as error:
        _say(str(error))
        return INVALID
    return max(codes, default=FINE)


def _config_path() -> Path | None:
    named = os.environ.get("FOS1_CONFIG")
    return Path(named) if named else None


def _served(repository: Path, config: Path | None) -> Served:
    if served := plainly_served(repository, config):
        return served
    from fos1d.settings import load

    return served_in(repository, load(config))


def plainly_served(repository: Path, config: Path | None) -> Served | None:
    """Return what the settings plainly say of `repository`; None where they are to be read with
    care, which takes longer than all else that the hook does."""
    import tomllib

    try:
        source = tomllib.loads((config or Path(DEFAULT_CONFIG)).read_text())["source"]
    except (OSError, ValueError, KeyError):
        return None
    match source:
        case {"type": "git", "path": str(path)} if Path(path).resolve() == repository:
            branch, subpath = source.get("branch", "main"), source.get("subpath", "")
            if branch and isinstance(branch, str) and isinstance(subpath, str):
                return Served(branch.removeprefix(_HEADS), subpath)
    return None


def served_in(repository: Path, settings: Settings) -> Served:
    """Return what the settings say of `repository`, or the branch that its HEAD names."""
    source = settings.source
    if source.type == "git" and source.path.resolve() == repository:
        return Served(source.branch.removeprefix(_HEADS), source.subpath)
    return Served(served_branch(repository, {}) or "main")


def updates_of(lines: Iterable[str]) -> list[Update]:
    """Return the updates that git describes as `old new ref` lines (githooks(5))."""
    return [Update(ref, new) for _, new, ref in (line.split() for line in lines)]


def _judge(repository: Path, served: Served, update: Update) -> int:
    """Say what is to be said of one update; return an exit code."""
    if update.ref != f"{_HEADS}{served.branch}":
        _say(f"{update.ref} is not what is served here ({served.branch}): not validated")
        return FINE
    if update.deletes:
        _say(
            f"{served.branch} is what fos1d serves here, and an empty source would remove "
            "everything: push a commit without manifests if that is what you want"
        )
        return REFUSED
    environment = quarantine(os.environ)
    source = GitSource(repository, served.branch, served.subpath, environment)
    return _judge_snapshot(source.snapshot(update.new))


def _judge_snapshot(snapshot: Snapshot) -> int:
    from fos1d.cli.judged import ask_daemon

    if judged := ask_daemon(snapshot):
        code = _tell(judged.findings, judged.errors, judged.declared)
        if code == FINE:
            print(judged.plan, file=sys.stderr)
        return code
    return _judge_here(snapshot)


def _judge_here(snapshot: Snapshot) -> int:
    """Judge without the daemon; it may yet have a plan for what it could not be handed whole."""
    from fos1d.kinds.validate import validate

    result = validate(snapshot)
    errors = errors_of(result.findings)
    code = _tell(map(str, result.findings), len(errors), len(result.declarations))
    if code == FINE:
        _say_plan(snapshot)
    return code


def _tell(findings: Iterable[str], errors: int, declared: int) -> int:
    """Say what was found; return the exit code."""
    for finding in findings:
        print(finding, file=sys.stderr)
    if errors:
        _say(f"{_counted(errors, 'error')}: nothing was changed, the push is refused")
        return INVALID
    _say(f"{_counted(declared, 'manifest')} valid")
    return FINE


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _say_plan(snapshot: Snapshot) -> None:
    """Print what the daemon would do, unless it does not answer in time."""
    plans: list[str | None] = []
    asking = threading.Thread(target=lambda: plans.append(_plan(snapshot)), daemon=True)
    asking.start()
    asking.join(_PLAN_S)
    if not plans:
        _say("plan not shown: fos1d gave no answer")
    elif plans[0] is None:
        _say("plan not shown: fos1d is not running here")
    else:
        print(plans[0], file=sys.stderr)


def _plan(snapshot: Snapshot) -> str | None:
    from fos1d.cli.remote_plan import plan_text

    text: str | None = plan_text(snapshot)
    return text


def _say(message: str) -> None:
    print(f"fos1d: {message}", file=sys.stderr, flush=True)
