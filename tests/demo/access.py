"""Scenes of the policy: what may begin from outside, and what becomes of what began before."""

from __future__ import annotations

import shutil

from tests.demo.stage import EXAMPLE, HOST4, HOST6, LAN4, LAN6, Stage, answered, say, scene, until
from tests.netns.sockets import is_answered
from tests.netns.talk import connect, connects, echo

WEB, OTHER = 8080, 2222
ENDS = ((HOST4, LAN4), (HOST6, LAN6))


def access(made: Stage) -> None:
    """Push a policy while connections are open that it allows, and others."""
    scene("A policy: from outside the web server and pings, nothing else (access.yaml)")
    for source, dest in ENDS:
        with echo(made.lan, dest, WEB, OTHER), echo(made.host, source, OTHER):
            _before_and_after(made, source, dest)
    _explained(made)


def _before_and_after(made: Stage, source: str, dest: str) -> None:
    web, other = (connect(made.host, source, dest, port) for port in (WEB, OTHER))
    assert web and other
    with web, other:
        both = is_answered(web) and is_answered(other)
        made.note(f"{dest}: two connections, before", "both live", "both" if both else "no", both)
        _push(made)
        lives, stopped = is_answered(web, 3), not is_answered(other)
        made.note("the open one to the web server", "goes on", _said(lives), lives)
        made.note("the open one to another port", "stops", _said(not stopped), stopped)
    fresh = connects(made.host, source, dest, WEB), connects(made.host, source, dest, OTHER)
    made.note("new ones", "web only", _ports(fresh), fresh == (True, False))
    out = connects(made.lan, dest, source, OTHER)
    made.note("from inside to any port", "opens", _said(out), out)
    (made.clone / "access.yaml").unlink()
    made.commit("Open the site again")
    made.git("push", "-q", "origin", "main")
    until(lambda: connects(made.host, source, dest, OTHER))


def _push(made: Stage) -> None:
    shutil.copy(EXAMPLE / "access.yaml", made.clone)
    made.commit("Say who may talk to whom")
    made.git("push", "-q", "origin", "main")
    took = until(lambda: made.router.ready("enpol", "access"))
    made.note("the policy is Ready", "yes", "read back from the kernel", took is not None)


def _explained(made: Stage) -> None:
    """Ask what the loaded programs would do, and what the rules have counted."""
    _push(made)
    with echo(made.lan, LAN4, WEB):
        connects(made.host, HOST4, LAN4, WEB)
    answered(made.host, HOST4, LAN4)
    scene("Why? `fos1ctl explain` runs the loaded programs on a packet")
    for port in (WEB, OTHER):
        ends = f"--src {HOST4}:40000 --dst {LAN4}:{port}"
        say(made.router.ctl("explain", *f"--in wan0 --proto tcp {ends}".split()).stdout)
    details = made.router.ctl("describe", "enpol/access").stdout
    say(details.partition("Rules:")[2].partition("Events:")[0].strip("\n"))


def _said(lives: bool) -> str:
    return "answered" if lives else "not answered"


def _ports(opened: tuple[bool, bool]) -> str:
    names = [name for name, is_open in zip(("web", "other"), opened, strict=True) if is_open]
    return ", ".join(names) or "none"
