"""The bare repository to which operators push: made, checked and repaired.

Decisions that the configuration carries out:

- Force pushes are allowed (`receive.denyNonFastForwards=false`): whoever may push may have to take
  back a revision in a hurry, and a refused push is a lock-out. What was replaced is not lost: bare
  repositories of ours keep a reflog of every push (`core.logAllRefUpdates`), for a year.
- Deleting the branch is refused by the hook, since an empty source would mean an empty kernel.
- What is pushed is checked (`receive.fsckObjects`).
"""

from __future__ import annotations

import shlex
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fos1d.errors import SourceError
from fos1d.source.git import run_git
from fos1d.source.refs import check_branch

_CONFIG = {
    "core.bare": "true",
    "core.hooksPath": "hooks",  # so that no user's own setting switches ours off
    "core.logAllRefUpdates": "true",
    "gc.reflogExpire": "1.year.ago",
    "gc.reflogExpireUnreachable": "1.year.ago",
    "receive.denyNonFastForwards": "false",
    "receive.fsckObjects": "true",
}
_MARK = "# Installed by `fos1ctl repo init`"
_HOOK = """\
#!/bin/sh
{mark}, which may be run again to repair it.
# Validates what is pushed to the branch that fos1d serves, and refuses what is not valid.
if [ ! -x {program} ]; then
    echo "fos1d: "{program}" is gone: nothing can be validated, so the push is refused." >&2
    echo "fos1d: on the router, run: fos1ctl repo init "{path} >&2
    exit 1
fi
{exports}{command} hook pre-receive
code=$?
case $code in
0 | 3 | 5) ;;
*)
    echo "fos1d: the check itself failed (exit code $code), so the push is refused." >&2
    echo "fos1d: in an emergency push to another branch, which is not checked, then on the" >&2
    echo "fos1d: router: git -C "{path}" update-ref refs/heads/BRANCH COMMIT" >&2
    ;;
esac
exit $code
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that is ready, and what had to be done for that (empty: nothing)."""

    path: Path
    branch: str
    done: tuple[str, ...]


def own_command() -> list[str]:
    """Return the words that run the fos1ctl of this very installation."""
    beside = Path(sys.executable).with_name("fos1ctl")
    found = str(beside) if beside.is_file() else shutil.which("fos1ctl")
    if found:
        return [str(Path(found).absolute())]
    return [sys.executable, "-c", "import sys; from fos1d.cli.ctl import main; sys.exit(main())"]


def init_repository(
    path: Path,
    branch: str = "main",
    command: Sequence[str] = (),
    exports: Mapping[str, str] | None = None,
) -> Repository:
    """Make a bare repository with our hook at `path`, or check and repair the one that is there.

    `command` runs fos1ctl in the hook, by default that of this installation; `exports` are
    variables that the hook gives to it. An existing repository keeps its default branch.
    Raises SourceError where something else is in the way.
    """
    path, branch = path.absolute(), check_branch(branch)
    script = hook_script(path, command or own_command(), exports or {})
    done = [] if _is_repository(path) else [_create(path, branch)]
    done += _configure(path)
    done += _install(path / "hooks" / "pre-receive", script)
    return Repository(path, served_branch(path, {}) or branch, tuple(done))


def served_branch(path: Path, environment: Mapping[str, str]) -> str | None:
    """Return the branch that the repository's HEAD names."""
    status, said, _ = run_git(path, environment, "symbolic-ref", "--quiet", "--short", "HEAD")
    return said if status == 0 else None


def hook_script(path: Path, command: Sequence[str], exports: Mapping[str, str]) -> str:
    """Return the text of the pre-receive hook."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(exports.items())]
    return _HOOK.format(
        mark=_MARK,
        program=shlex.quote(command[0]),
        path=shlex.quote(str(path)),
        exports="".join(lines),
        command=shlex.join(command),
    )


def _is_repository(path: Path) -> bool:
    """Tell whether a bare repository is there; raise SourceError for anything else but space."""
    if (path / ".git").exists():
        raise SourceError(
            f"{path} is a repository with a work tree, into which one cannot push: "
            "choose another path, and push from this one to it"
        )
    if (path / "HEAD").is_file() and (path / "objects").is_dir():
        return True
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SourceError(f"{path} is neither empty nor a Git repository: choose another path")
    return False


def _create(path: Path, branch: str) -> str:
    path.mkdir(parents=True, exist_ok=True)
    shared = ["--shared=group"] if path.stat().st_mode & stat.S_ISGID else []
    _git(path, "init", "--quiet", "--bare", *shared, f"--initial-branch={branch}", str(path))
    return f"made a bare repository with the branch {branch}"


def _configure(path: Path) -> list[str]:
    """Set what is not yet as it should be; return what was."""
    lines = _git(path, "config", "--local", "--null", "--list").split("\0")
    held = dict(line.partition("\n")[::2] for line in lines)
    wrong = {key: value for key, value in _CONFIG.items() if held.get(key.lower()) != value}
    for key, value in wrong.items():
        _git(path, "config", "--local", "--replace-all", key, value)
    return [f"set {key} to {value}" for key, value in wrong.items()]


def _install(hook: Path, script: str) -> list[str]:
    """Write our hook; raise SourceError where another one is."""
    held = hook.read_text(errors="replace") if hook.exists() else None
    if hook.is_symlink() or (held is not None and _MARK not in held):
        raise SourceError(
            f"{hook} is not fos1d's own and was left alone: move it away and try again, or have it "
            "call `fos1ctl hook pre-receive` with the lines of its standard input"
        )
    if held == script and hook.stat().st_mode & stat.S_IXUSR:
        return []
    hook.parent.mkdir(exist_ok=True)
    fresh = hook.with_name("pre-receive.new")
    fresh.write_text(script)
    fresh.chmod(0o755)
    fresh.replace(hook)
    return [f"{'repaired' if held else 'installed'} {hook}"]


def _git(path: Path, *args: str) -> str:
    status, said, complained = run_git(path, {}, *args)
    if status:
        raise SourceError(f"git {args[0]} failed in {path}: {complained}")
    return said
