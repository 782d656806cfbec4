"""A steady sender and a receiver that counts: `-m tests.stream send|receive` as processes, so that
each can stand in a cgroup and a network namespace of its own.

    receive tcp|udp ADDRESS PORT WARM_S SECONDS    prints the payload bytes per second of the window
    send tcp|udp ADDRESS PORT SECONDS BITS_PER_S FLOWS CONGESTION
"""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator

UDP_SEGMENT, UDP_GRO, SO_RCVBUFFORCE = 103, 104, 33
DATAGRAM_BYTES = 1400
READ_BYTES = 1 << 18
PATIENCE_S = 20.0


def family_of(address: str) -> socket.AddressFamily:
    """Return the address family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def sizes(receiver: socket.socket, is_udp: bool, until: float) -> Iterator[int]:
    """Yield the number of bytes of each read, over all connections; 0 while nothing comes."""
    with selectors.DefaultSelector() as ready:
        ready.register(receiver, selectors.EVENT_READ)
        while time.monotonic() < until:
            yield 0
            for key, _ in ready.select(0.01):
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is receiver and not is_udp:
                    ready.register(receiver.accept()[0], selectors.EVENT_READ)
                    continue
                data = source.recv(READ_BYTES)
                if not data:
                    ready.unregister(source)
                yield len(data)


def receive(kind: str, address: str, port: str, warm_s: str, seconds: str) -> None:
    """Count what comes in a window that begins some time after the first byte."""
    is_udp = kind == "udp"
    made = socket.socket(family_of(address), socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, int(port)))
    if is_udp:
        made.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
    else:
        made.listen(16)
    print("ready", flush=True)
    total, opens, ends = 0, 0.0, 0.0
    for size in sizes(made, is_udp, time.monotonic() + PATIENCE_S):
        now = time.monotonic()
        if size and not opens:
            opens, ends = now + float(warm_s), now + float(warm_s) + float(seconds)
        if opens and now >= ends:
            break
        total += size if opens and now >= opens else 0
    print(total / float(seconds), flush=True)


def send_tcp(address: str, port: int, seconds: float, congestion: str) -> None:
    """Send as much as TCP takes."""
    with socket.socket(family_of(address), socket.SOCK_STREAM) as made:
        if congestion:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        made.connect((address, port))
        made.settimeout(0.2)
        until, block = time.monotonic() + seconds, bytes(1 << 16)
        while time.monotonic() < until:
            try:
                made.send(block)
            except TimeoutError:
                continue
            except OSError:
                return


def send_udp(address: str, port: int, seconds: float, bits_per_s: float) -> None:
    """Send datagrams at a rate, some at a time where there are many."""
    at_once = min(max(int(bits_per_s / 8 * 0.002 / DATAGRAM_BYTES), 1), 40)
    pause_s = at_once * DATAGRAM_BYTES * 8 / bits_per_s
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, DATAGRAM_BYTES)
        made.connect((address, port))
        began = due = time.monotonic()
        while due < began + seconds:
            try:
                made.send(bytes(DATAGRAM_BYTES * at_once))
            except ConnectionRefusedError:
                return
            due += pause_s
            time.sleep(max(due - time.monotonic(), 0))


def send(
    kind: str, address: str, port: str, seconds: str, bits_per_s: str, flows: str, congestion: str
) -> None:
    """Send over some flows at once."""
    count = int(flows)

    def one() -> None:
        if kind == "udp":
            send_udp(address, int(port), float(seconds), float(bits_per_s) / count)
        else:
            send_tcp(address, int(port), float(seconds), congestion)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["send", *words]:
            send(*words)
        case ["receive", *words]:
            receive(*words)
        case _:
            sys.exit(__doc__)
