"""The story: before, a push, traffic, a bad push, a foreign hand, a kill, a newcomer, a policy, a
translation."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.demo import refused
from tests.demo.access import access
from tests.demo.stage import (
    ATTACKER4,
    ATTACKER6,
    EXAMPLE,
    HOST4,
    HOST6,
    LAN4,
    LAN6,
    NEW4,
    NOISY4,
    Stage,
    answered,
    paint,
    say,
    scene,
    stage,
    until,
)
from tests.demo.translated import translated
from tests.running import ROOT

PICTURE = """
 host      203.0.113.2, .50 ─┐            ┌───────────────┐
                             ├─ (bridge) ─┤ wan0  router  │
 attacker  203.0.113.66, .77 ┘            │  XDP ▲   lan0 ├── lan  10.0.0.2
                                          └──────┼────────┘
 operator ── git push ──> policy.git ──> fos1d ──┘
"""
FLOOD_PACKETS, FLOOD_S = 3000, 1.5


def main() -> int:
    """Run the demo; return 0 if everything was seen as it should be."""
    if missing := refused.what_is_missing():
        return refused.show(missing)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fos1-demo-") as folder, stage(Path(folder)) as made:
        for part in (
            before,
            push,
            traffic,
            bad_push,
            foreign_hand,
            killed,
            newcomer,
            access,
            translated,
        ):
            part(made)
        good = table(made)
    end = "All as it should be" if good else "Something is wrong"
    say(f"\n{end}, {time.monotonic() - began:.0f} s.")
    return 0 if good else 1


def before(made: Stage) -> None:
    """Show the site without protection."""
    scene("A site on the Internet (network namespaces on this machine, real packets)")
    print(PICTURE)
    words = [
        ".venv/bin/fos1ctl",
        "repo",
        "init",
        str(made.bare),
        "--config",
        str(made.router.config),
    ]
    subprocess.run(words, check=True, cwd=ROOT, capture_output=True)
    made.git("clone", "-q", str(made.bare), str(made.clone), at=made.router.folder)
    made.git("checkout", "-q", "-b", "main")
    until(lambda: answered(made.host, HOST6, LAN6, 1), 10)
    hits = answered(made.attacker, ATTACKER4, LAN4)
    made.note(
        "before: the attacker reaches the LAN", "10 of 10", f"{hits} of 10 answered", hits == 10
    )


def push(made: Stage) -> None:
    """Push the example and start the daemon on it."""
    scene("The operator pushes examples/edge-router/ to the router")
    later = shutil.ignore_patterns("access.yaml", "nat.yaml")
    shutil.copytree(EXAMPLE, made.clone, dirs_exist_ok=True, ignore=later)
    banned = made.clone / "banned.yaml"
    text = banned.read_text()
    banned.write_text(text.replace("/sys/fs/bpf/banned", f"{made.router.bpffs.parent}/banned"))
    made.commit("Protect the edge")
    made.router.start()
    done = made.git("push", "origin", "main")
    say("\n".join(line.rstrip() for line in done.stderr.splitlines() if "remote:" in line))
    took = until(lambda: made.router.ready("ebpf", "edge"))
    made.note("pushed policy is Ready", "yes", "read back from the kernel", took is not None)
    say(made.router.ctl("get", "all").stdout)


def traffic(made: Stage) -> None:
    """Send good, bad and too much."""
    scene("Traffic")
    for source, dest in ((ATTACKER4, LAN4), (ATTACKER6, LAN6)):
        hits = answered(made.attacker, source, dest)
        made.note(f"attacker {source}", "0 of 10", f"{hits} of 10 answered", hits == 0)
    arrived = flood(made)
    most = int(200 + 500 * FLOOD_S * 2)
    made.note(
        f"too much from {NOISY4}: {FLOOD_PACKETS} datagrams in {FLOOD_S} s, limit 500 a second",
        f"200 to {most}",
        f"{arrived} arrived",
        200 <= arrived <= most,
    )
    for source, dest in ((HOST4, LAN4), (HOST6, LAN6)):
        hits = answered(made.host, source, dest, 20)
        made.note(
            f"host {source}, at the same time", "20 of 20", f"{hits} of 20 answered", hits == 20
        )
    sent = transfer(made)
    made.note("host downloads 20 MB by TCP", "20 MB", f"{sent / 1e6:.0f} MB", sent == 20_000_000)


def flood(made: Stage) -> int:
    """Send datagrams as fast as the time allows; return how many the LAN host got."""
    with made.lan.entered():
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sink.bind((LAN4, 7777))
        sink.setblocking(False)
    with made.host.entered():
        source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        source.bind((NOISY4, 0))
    arrived = 0
    with sink, source:
        for number in range(FLOOD_PACKETS):
            source.sendto(b"x" * 32, (LAN4, 7777))
            time.sleep(FLOOD_S / FLOOD_PACKETS / 2)
            if number % 50 == 0:
                arrived += drain(sink)
        time.sleep(0.2)
        return arrived + drain(sink)


def drain(sink: socket.socket) -> int:
    """Count what waits in a socket."""
    count = 0
    try:
        while True:
            sink.recv(64)
            count += 1
    except BlockingIOError:
        return count


def transfer(made: Stage) -> int:
    """Fetch 20 MB from the LAN host by TCP; return how many bytes came."""
    with made.lan.entered():
        listener = socket.create_server((LAN4, 8080))
    with made.host.entered():
        client = socket.create_connection((LAN4, 8080), timeout=10)
    server, _ = listener.accept()
    size, got = 20_000_000, 0
    with listener, server, client:
        server.setblocking(False)
        content, sent = bytes(1 << 16), 0
        while got < size:
            with suppress(BlockingIOError):
                sent += server.send(content[: size - sent]) if sent < size else 0
            got += len(client.recv(1 << 20))
    return got


def bad_push(made: Stage) -> None:
    """Push a mistake."""
    scene("A push with a mistake is refused, and says where")
    edge = made.clone / "edge.yaml"
    good = edge.read_text()
    edge.write_text(good.replace("packetsPerSecond: 500", "packetsPerSecnd: 500"))
    made.commit("Raise the limit (with a slip of the finger)")
    done = made.git("push", "origin", "main")
    say(
        "\n".join(
            line for line in done.stderr.splitlines() if "remote:" in line or "rejected" in line
        )
    )
    refused_it = done.returncode != 0 and "edge.yaml:" in done.stderr
    made.note(
        "bad push", "refused", "refused with file:line:col" if refused_it else "taken", refused_it
    )
    made.git("reset", "-q", "--hard", "HEAD~1")
    hits = answered(made.attacker, ATTACKER4, LAN4)
    made.note("attacker after it", "0 of 10", f"{hits} of 10 answered", hits == 0)


def foreign_hand(made: Stage) -> None:
    """Detach the program behind the daemon's back."""
    scene("Somebody types `ip link set dev wan0 xdp off` on the router")
    made.router.ip("link", "set", "dev", "wan0", "xdp", "off")
    took = until(lambda: made.router.xdp("wan0"))
    seen = f"back after {took:.0f} ms" if took is not None else "not put back"
    made.note("detached program", "put back", seen, took is not None)
    hits = answered(made.attacker, ATTACKER4, LAN4)
    made.note("attacker after it", "0 of 10", f"{hits} of 10 answered", hits == 0)
    events = made.router.ctl("events", "ebpf/edge").stdout.splitlines()
    say("\n".join([events[0], *(line for line in events if "DriftHealed" in line)]))


def killed(made: Stage) -> None:
    """Kill the daemon."""
    scene("kill -9 the daemon: the data path does not care")
    made.router.kill()
    hits = answered(made.attacker, ATTACKER4, LAN4)
    made.note("attacker while no daemon runs", "0 of 10", f"{hits} of 10 answered", hits == 0)
    hits = answered(made.host, HOST4, LAN4)
    made.note("host while no daemon runs", "10 of 10", f"{hits} of 10 answered", hits == 10)
    made.router.start()
    same = "created" not in made.router.ctl("events").stdout.lower()
    made.note(
        "the next start", "changes nothing", "found its state" if same else "made changes", same
    )


def newcomer(made: Stage) -> None:
    """List a new attacker and time it."""
    scene("A new attacker is listed: one line, one push")
    hits = answered(made.attacker, NEW4, LAN4)
    made.note(f"{NEW4} before", "10 of 10", f"{hits} of 10 answered", hits == 10)
    with (made.clone / "lists/drop.netset").open("a") as file:
        file.write(f"{NEW4}\n")
    made.commit(f"Drop {NEW4}")
    before_it = made.router.xdp("wan0")
    began = time.monotonic()
    done = made.git("push", "-q", "origin", "main")
    pushed = time.monotonic()
    until(lambda: made.router.xdp("wan0") != before_it)
    enforced = time.monotonic()
    say(
        f"push with its check {1000 * (pushed - began):.0f} ms, then enforced within"
        f" {max(0.0, 1000 * (enforced - pushed)):.0f} ms"
    )
    hits = answered(made.attacker, NEW4, LAN4)
    made.note(
        f"{NEW4} after", "0 of 10", f"{hits} of 10 answered", done.returncode == 0 and hits == 0
    )


def table(made: Stage) -> bool:
    """Show all that was seen; return whether all of it was right."""
    scene("What the program counted")
    details = made.router.ctl("describe", "ebpf/edge").stdout
    say(details.partition("Counters:")[2].partition("Events:")[0].strip("\n"))
    scene("What was seen")
    words = [row[:3] for row in made.rows]
    widths = [max(len(row[column]) for row in words) for column in range(3)]
    for what, wanted, seen, good in made.rows:
        mark = paint("32", "ok") if good else paint("31;1", "BAD")
        say(f"{what:<{widths[0]}}  {wanted:<{widths[1]}}  {seen:<{widths[2]}}  {mark}")
    return all(good for *_, good in made.rows)


SCENES = (
    before,
    push,
    traffic,
    bad_push,
    foreign_hand,
    killed,
    newcomer,
    access,
    translated,
)

if __name__ == "__main__":
    sys.exit(main())
