"""The repository that operators push to, and what its hook says, with real pushes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fos1d.cli import repo
from fos1d.errors import SourceError
from fos1d.model.snapshot import Snapshot
from fos1d.source.git import GitSource
from fos1d.source.repository import Repository, init_repository, own_command, served_branch

ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "PATH": os.environ["PATH"],
    "FOS1_SOCKET": os.devnull,
}

HOOK = """
import argparse, sys, types
from fos1d.cli import repo
from fos1d.model.diagnostic import Diagnostic, Severity
from fos1d.model.identity import Origin

def findings(snapshot):
    for blob in snapshot.manifests():
        for number, line in enumerate(blob.read().decode().splitlines(), 1):
            if "crash" in line:
                raise RuntimeError("a bug of ours")
            if "odd" in line or "bad" in line:
                severity = Severity.WARNING if "odd" in line else Severity.ERROR
                yield Diagnostic(Origin(blob.path, number, 3), "spec.type", line, severity)

def validate(snapshot):
    return types.SimpleNamespace(
        declarations=snapshot.manifests(), findings=list(findings(snapshot)))

def module(name, **members):
    made = sys.modules[name] = types.ModuleType(name)
    vars(made).update(members)

module("fos1d.kinds.validate", validate=validate)
module("fos1d.cli.remote_plan", plan_text=lambda snapshot: {plan!r})
parser = argparse.ArgumentParser()
repo.register(parser.add_subparsers())
args = parser.parse_args()
sys.exit(args.func(args))
"""


def git(folder: Path, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *args],
        cwd=folder,
        env=ENVIRONMENT,
        check=check,
        capture_output=True,
        text=True,
        timeout=60,
    )


class Operator:
    """A repository on the router, and somebody who pushes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "policy.git"
        self.tree = folder / "tree"
        self.settings = folder / "fos1d.toml"
        self.settings.write_text("")
        self.tree.mkdir()
        git(self.tree, "init", "--quiet", "--initial-branch=main")

    def init(self, plan: str | None = None, branch: str = "main") -> Repository:
        """Make the repository, with a hook whose validator dislikes lines with `bad`."""
        script = self.folder / "hook.py"
        script.write_text(HOOK.replace("{plan!r}", repr(plan)))
        exports = {"FOS1_CONFIG": str(self.settings)}
        return init_repository(self.path, branch, [sys.executable, str(script)], exports)

    def push(self, text: str, ref: str = "main", name: str = "a.yaml") -> tuple[int, str]:
        """Commit and push; return git's exit code and what it printed."""
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        git(self.tree, "add", "--all")
        git(self.tree, "commit", "--quiet", "--allow-empty", "--message", "x")
        return self.push_only(f"+main:{ref}")

    def push_only(self, *refs: str) -> tuple[int, str]:
        done = git(self.tree, "push", str(self.path), *refs, check=False)
        lines = [line.rstrip() for line in done.stderr.splitlines()]
        return done.returncode, "\n".join(lines)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


# Making it


def test_it_is_made_once(operator: Operator) -> None:
    made = operator.init()
    assert made.branch == "main"
    assert made.done[0] == "made a bare repository with the branch main"
    assert operator.init().done == ()
    config = git(operator.path, "config", "--list").stdout
    for line in ("receive.fsckobjects=true", "core.bare=true", "core.logallrefupdates=true"):
        assert line in config


def test_what_was_changed_is_repaired(operator: Operator) -> None:
    operator.init()
    git(operator.path, "config", "receive.fsckObjects", "false")
    hook = operator.path / "hooks/pre-receive"
    hook.chmod(0o644)
    made = operator.init()
    assert made.done == ("set receive.fsckObjects to true", f"repaired {hook}")
    assert os.access(hook, os.X_OK)


@pytest.mark.slow
def test_an_existing_repository_keeps_its_branch_and_commits(operator: Operator) -> None:
    operator.init(branch="policy")
    assert operator.push("a: 1", "policy")[0] == 0
    assert operator.init(branch="main").branch == "policy"
    assert served_branch(operator.path, {}) == "policy"
    assert GitSource(operator.path, "policy").head()


def test_an_empty_folder_is_used_and_its_group_kept(operator: Operator) -> None:
    operator.path.mkdir()
    operator.path.chmod(0o2775)
    operator.init()
    shared = git(operator.path, "config", "core.sharedRepository").stdout.strip()
    assert shared in ("1", "group")


def make_file(path: Path) -> None:
    path.write_text("")


def make_full_folder(path: Path) -> None:
    path.mkdir()
    (path / "x").write_text("")


def make_work_tree(path: Path) -> None:
    path.mkdir()
    git(path, "init", "--quiet")


@pytest.mark.parametrize("make", [make_file, make_full_folder, make_work_tree])
def test_what_is_in_the_way_is_left_alone(operator: Operator, make: Callable[[Path], None]) -> None:
    make(operator.path)
    before = sorted(operator.folder.rglob("policy.git/*"))
    with pytest.raises(SourceError, match="choose another path"):
        operator.init()
    assert sorted(operator.folder.rglob("policy.git/*")) == before


@pytest.mark.parametrize("link", [False, True])
def test_a_foreign_hook_is_never_overwritten(operator: Operator, link: bool) -> None:
    git(operator.folder, "init", "--quiet", "--bare", str(operator.path))
    hook = operator.path / "hooks/pre-receive"
    if link:
        hook.symlink_to("/bin/true")
    else:
        hook.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(SourceError, match="left alone: move it away"):
        operator.init()
    assert hook.is_symlink() is link
    assert link or hook.read_text() == "#!/bin/sh\nexit 0\n"


def test_the_command_of_this_installation() -> None:
    command = own_command()
    assert Path(command[0]).is_absolute()
    assert os.access(command[0], os.X_OK)


# Pushing


def test_a_good_push_is_counted_and_taken(operator: Operator) -> None:
    operator.init()
    code, said = operator.push("kind: EBPFMap\n")
    assert code == 0
    assert "remote: fos1d: 1 manifest valid" in said
    assert "remote: fos1d: plan not shown: fos1d is not running here" in said
    assert GitSource(operator.path).head()


@pytest.mark.slow
def test_the_plan_of_a_good_push_is_shown(operator: Operator) -> None:
    operator.init(plan="+ map xdp/blocklist\n~ program xdp/filter")
    code, said = operator.push("kind: EBPFMap\n")
    assert code == 0
    assert "remote: + map xdp/blocklist\nremote: ~ program xdp/filter" in said


def test_a_bad_push_is_refused_with_every_place(operator: Operator) -> None:
    operator.init()
    assert operator.push("good: 1\n")[0] == 0
    head = GitSource(operator.path).head()
    code, said = operator.push("x: 1\ny: bad\nz: bad too\nw: odd\n", name="site/b.yaml")
    assert code != 0
    assert "remote: site/b.yaml:2:3 spec.type y: bad" in said
    assert "remote: site/b.yaml:3:3 spec.type z: bad too" in said
    assert "remote: site/b.yaml:4:3 spec.type warning: w: odd" in said
    assert "remote: fos1d: 2 errors: nothing was changed, the push is refused" in said
    assert "pre-receive hook declined" in said
    assert GitSource(operator.path).head() == head
    assert "check itself failed" not in said


@pytest.mark.slow
def test_warnings_do_not_refuse(operator: Operator) -> None:
    operator.init()
    code, said = operator.push("w: odd\n")
    assert code == 0
    assert "warning: w: odd" in said


@pytest.mark.slow
def test_other_branches_pass_with_a_note(operator: Operator) -> None:
    operator.init()
    code, said = operator.push("y: bad\n", "draft")
    assert code == 0
    assert "refs/heads/draft is not what is served here (main): not validated" in said


@pytest.mark.slow
def test_a_bad_branch_refuses_the_others_in_the_same_push(operator: Operator) -> None:
    operator.init()
    assert operator.push("good: 1\n")[0] == 0
    git(operator.tree, "branch", "draft")
    operator.push("y: bad\n")
    assert operator.push_only("main", "draft")[0] != 0
    assert GitSource(operator.path, "draft").head() is None


@pytest.mark.slow
def test_the_served_branch_cannot_be_deleted(operator: Operator) -> None:
    operator.init()
    operator.push("good: 1\n")
    code, said = operator.push_only(":main")
    assert code != 0
    assert "an empty source would remove everything" in said
    operator.push("good: 1\n", "draft")
    assert operator.push_only(":draft")[0] == 0


@pytest.mark.slow
def test_a_force_push_is_taken_and_the_old_commit_is_in_the_reflog(operator: Operator) -> None:
    operator.init()
    operator.push("good: 1\n")
    old = GitSource(operator.path).head()
    git(operator.tree, "commit", "--quiet", "--amend", "--message", "again")
    assert operator.push_only("+main")[0] == 0
    assert GitSource(operator.path).head() != old
    log = git(operator.path, "log", "--walk-reflogs", "--format=%H", "main").stdout
    assert str(old) in log


@pytest.mark.slow
def test_a_symlink_is_refused_by_name(operator: Operator) -> None:
    operator.init()
    (operator.tree / "x.yaml").symlink_to("/etc/passwd")
    code, said = operator.push("good: 1\n")
    assert code != 0
    assert "remote: fos1d: x.yaml is a symlink" in said


@pytest.mark.slow
def test_the_settings_say_which_branch_and_folder_are_served(operator: Operator) -> None:
    operator.init()
    operator.settings.write_text(
        f'[source]\ntype = "git"\npath = "{operator.path}"\nbranch = "edge"\nsubpath = "fra"\n'
    )
    assert "not validated" in operator.push("y: bad\n")[1]
    code, said = operator.push("y: bad\n", "edge", name="fra/a.yaml")
    assert code != 0
    assert "remote: fra/a.yaml:1:3" in said
    code, said = operator.push("good: 1\n", "edge", name="fra/a.yaml")
    assert code == 0
    assert "1 manifest valid" in said


@pytest.mark.slow
def test_settings_that_cannot_be_used_refuse(operator: Operator) -> None:
    operator.init()
    operator.settings.write_text("[source]\npth = 1\n")
    code, said = operator.push("good: 1\n")
    assert code != 0
    assert 'source.pth: unknown key; did you mean "path"?' in said
    assert "update-ref" in said


def test_a_failure_of_the_check_refuses_and_says_what_to_do(operator: Operator) -> None:
    operator.init()
    code, said = operator.push("crash: 1\n")
    assert code != 0
    assert "RuntimeError: a bug of ours" in said
    assert "remote: fos1d: the check itself failed (exit code 1), so the push is refused." in said
    assert operator.push_only("main:rescue")[0] == 0
    head = git(operator.tree, "rev-parse", "HEAD").stdout.strip()
    git(operator.path, "update-ref", "refs/heads/main", head)
    assert GitSource(operator.path).head() == head


def test_a_hook_whose_program_is_gone_refuses(operator: Operator) -> None:
    init_repository(operator.path, command=[str(operator.folder / "it's gone")])
    code, said = operator.push("good: 1\n")
    assert code != 0
    assert "it's gone is gone: nothing can be validated" in said
    assert f"fos1ctl repo init {operator.path}" in said


# The commands, called as fos1ctl calls them


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    repo.register(parser.add_subparsers())
    return parser.parse_args(words)


def test_init_says_how_to_go_on(
    operator: Operator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOS1_CONFIG", "/etc/fos1d/other.toml")
    args = parsed("repo", "init", str(operator.path), "--branch", "edge")
    assert args.func(args) == 0
    said = capsys.readouterr().out
    assert f'path = "{operator.path}"' in said
    assert 'branch = "edge"' in said
    assert "git push router edge" in said
    assert "FOS1_CONFIG=/etc/fos1d/other.toml" in (operator.path / "hooks/pre-receive").read_text()
    assert args.func(args) == 0
    assert "nothing had to be done" in capsys.readouterr().out


def test_init_of_a_path_in_use(operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    operator.path.write_text("")
    args = parsed("repo", "init", str(operator.path))
    assert args.func(args) == 5
    assert "choose another path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (lambda snapshot: None, "fos1d is not running here"),
        (lambda snapshot: "+ map x", "+ map x"),
        (lambda snapshot: __import__("time").sleep(30), "fos1d gave no answer"),
    ],
)
def test_the_daemon_is_not_waited_for_long(
    plan: Callable[[object], str | None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(repo, "_PLAN_S", 0.2)
    monkeypatch.setattr(repo, "_plan", plan)
    repo._say_plan(Snapshot("x", {}))
    assert words in capsys.readouterr().err
