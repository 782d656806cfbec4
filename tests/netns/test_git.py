"""From `git push` to the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.applied import program
from tests.netns.conftest import WAN4, Site
from tests.running import ROOT, until

pytestmark = pytest.mark.netns

ATTACKER = f"{WAN4}.66"
LISTED = '{blacklist: {enabled: true, files: ["lists/bad.netset"]}}'
WHO = {
    "GIT_AUTHOR_NAME": "Operator",
    "GIT_AUTHOR_EMAIL": "operator@example.net",
    "GIT_COMMITTER_NAME": "Operator",
    "GIT_COMMITTER_EMAIL": "operator@example.net",
    "GIT_CONFIG_NOSYSTEM": "1",
}


class Clone:
    """An operator's clone of the router's repository."""

    def __init__(self, site: Site) -> None:
        self.bare = site.router.folder / "policy.git"
        self.folder = site.router.folder / "clone"
        self.environment = {
            **os.environ,
            **WHO,
            "HOME": str(site.router.folder),
            "FOS1_SOCKET": f"{site.router.folder}/run/api.sock",
        }
        command = [sys.executable, "-m", "fos1d.cli.ctl", "repo", "init", str(self.bare)]
        command += ["--config", str(site.router.config)]
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
        self.git("clone", "-q", str(self.bare), str(self.folder), at=site.router.folder)
        self.git("checkout", "-q", "-b", "main")

    def git(self, *words: str, at: Path | None = None, check: bool = True) -> str:
        """Run git; return all that it said."""
        done = subprocess.run(
            ["git", *words],
            cwd=at or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, said
        return said if done.returncode == 0 else f"REFUSED\n{said}"

    def push(self, files: dict[str, str | None], *options: str, check: bool = True) -> str:
        """Write or remove files, commit, push; return what the push said."""
        for name, content in files.items():
            place = self.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True) if content is None else place.write_text(content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"Change {', '.join(files)}")
        return self.git("push", *options, "origin", "main", check=check)


@pytest.fixture
def clone(site: Site) -> Clone:
    """A site that is served from a repository, with one program in force."""
    source = f'type = "git"\npath = "{site.router.folder}/policy.git"'
    site.router.write_settings(source)
    made = Clone(site)
    first: dict[str, str | None] = {
        "edge.yaml": program("edge", "wan0", LISTED),
        "lists/bad.netset": f"# the bad ones\n{ATTACKER}\n",
    }
    made.push(first)
    site.router.start()
    until(lambda: site.router.ready("ebpf", "edge"), 10)
    return made


def test_a_push_is_enforced_within_a_second(site: Site, clone: Clone) -> None:
    assert not site.ping(ATTACKER)
    said = clone.push({"lists/bad.netset": "198.51.100.0/24\n"})
    until(lambda: site.ping(ATTACKER), 1.5)
    assert "fos1d: 1 manifest" in said, said
    assert "create" in said and "replace" in said, "the plan is shown to the pusher"
    clone.push({"lists/bad.netset": f"{WAN4}.64/26\n"})
    until(lambda: not site.ping(ATTACKER), 1.5)
    assert site.ping(f"{WAN4}.2")
    history = site.router.ctl("history").stdout
    assert "Change lists/bad.netset" in history and "Operator" in history


def test_a_bad_push_is_refused_with_its_place(site: Site, clone: Clone) -> None:
    said = clone.push({"edge.yaml": program("edge", "wan0", "{blacklst: {}}")}, check=False)
    assert said.startswith("REFUSED")
    assert "edge.yaml:7:14 spec.settings.blacklst" in said, said
    assert "blacklist" in said, "did you mean"
    assert not site.ping(ATTACKER), "and nothing changed"
    clone.git("reset", "-q", "--hard", "HEAD~1")
    assert "REFUSED" in clone.push({"lists/bad.netset": "10.0.0.1/24\n300.1.1.1\n"}, check=False)


def test_the_branch_cannot_be_deleted(site: Site, clone: Clone) -> None:
    assert "REFUSED" in clone.git("push", "origin", ":main", check=False)
    assert not site.ping(ATTACKER)


def test_a_forced_push_goes_back(site: Site, clone: Clone) -> None:
    clone.push({"lists/bad.netset": "198.51.100.0/24\n"})
    until(lambda: site.ping(ATTACKER), 2)
    clone.git("reset", "-q", "--hard", "HEAD~1")
    clone.git("push", "-q", "--force", "origin", "main")
    until(lambda: not site.ping(ATTACKER), 2)


def test_other_branches_are_left_alone(site: Site, clone: Clone) -> None:
    clone.git("checkout", "-q", "-b", "draft")
    (clone.folder / "edge.yaml").write_text("nonsense: [")
    clone.git("commit", "-qam", "A draft")
    clone.git("push", "-q", "origin", "draft")
    assert not site.ping(ATTACKER)
    assert site.router.status()["healthy"]


def test_a_repository_that_vanishes_changes_nothing(site: Site, clone: Clone) -> None:
    clone.bare.rename(clone.bare.with_name("gone.git"))
    site.router.ctl("reconcile", "--wait", check=None)
    assert not site.ping(ATTACKER)
    site.router.kill()
    site.router.start()
    assert not site.ping(ATTACKER), "nor does a restart without it"
    assert "policy.git" in site.router.ctl("status", check=1).stdout
    clone.bare.with_name("gone.git").rename(clone.bare)
    until(lambda: site.router.status()["healthy"], 10)
