"""Scenes of translation: who the outside sees, and a connection that outlives the daemon."""

from __future__ import annotations

import shutil
import socket

from tests.demo.access import WEB
from tests.demo.stage import EXAMPLE, HOST4, LAN4, Stage, say, scene, until
from tests.netns.sockets import PATIENCE_S, is_answered
from tests.netns.talk import connect, echo

ROUTER4, PUBLIC, ANYWHERE = "203.0.113.1", 80, 7000


def translated(made: Stage) -> None:
    """Push a translation, look at it from outside, and kill the daemon under a connection."""
    scene("Translation: the inside looks like one address (nat.yaml)")
    shutil.copy(EXAMPLE / "nat.yaml", made.clone)
    made.commit("Hide the inside behind one address")
    made.git("push", "-q", "origin", "main")
    ready = until(lambda: made.router.ready("enat", "inside") and made.router.ready("enat", "web"))
    made.note("the translations are Ready", "yes", "read back from the kernel", ready is not None)
    seen = seen_by_host(made)
    made.note(f"host sees {LAN4} as", ROUTER4, seen, seen == ROUTER4)
    with echo(made.lan, LAN4, WEB):
        inward = connect(made.host, HOST4, ROUTER4, PUBLIC)
        is_open = inward is not None and is_answered(inward)
        said = "answered" if is_open else "not answered"
        made.note(f"host asks {ROUTER4}:{PUBLIC}", "answered", said, is_open)
        if inward is not None:
            outlived(made, inward)
    say(made.router.ctl("nat", "list").stdout)


def seen_by_host(made: Stage) -> str:
    """Return the address from which a connection of the inside comes to the host."""
    with made.host.entered():
        server = socket.create_server((HOST4, ANYWHERE))
    server.settimeout(PATIENCE_S)
    with server, connect(made.lan, LAN4, HOST4, ANYWHERE) or server:
        try:
            accepted, (address, _) = server.accept()
        except TimeoutError:
            return "nobody"
        accepted.close()
        return str(address)


def outlived(made: Stage, connection: socket.socket) -> None:
    """Kill the daemon and start it again while a translated connection is used."""
    with connection:
        made.router.kill()
        without = is_answered(connection)
        made.router.start()
        after = is_answered(connection)
        said = f"{'answered' if without else 'not answered'}, {'answered' if after else 'not'}"
        made.note("kill -9, the next start", "answered both times", said, without and after)
