"""Many TCP connections at once that check every byte: `-m tests.netns.nat_load`.

serve ADDRESS PORT                      answers each block with its bytes turned round
run ADDRESS PORT COUNT SOURCE SEED      opens COUNT connections, says "ready", exchanges random
                                        blocks on all until its input ends, then says as JSON
                                        how many blocks came back and what was wrong
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import dataclass, field

BLOCK_BYTES = 700
PAUSE_S = 0.8
PATIENCE_S = 30.0
TOGETHER = 50


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send each block back, turned round."""
    try:
        while block := await reader.readexactly(BLOCK_BYTES):
            writer.write(block[::-1])
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


async def serve(address: str, port: str) -> None:
    """Answer for ever."""
    server = await asyncio.start_server(answer, address, int(port), backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


@dataclass
class Crowd:
    """Connections from one address to one server."""

    address: str
    port: int
    source: str
    seed: int
    open: int = 0
    wrong: list[str] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TOGETHER))

    async def connection(self, number: int) -> int:
        """Be one connection; return how many blocks it exchanged."""
        async with self.gate, asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(
                self.address, self.port, local_addr=(self.source, 0)
            )
        self.open += 1
        chance, blocks = random.Random(self.seed * 1_000_003 + number), 0
        while not self.stop.is_set():
            if not await exchanged(reader, writer, chance.randbytes(BLOCK_BYTES)):
                self.wrong.append(f"{number}: block {blocks} came back otherwise")
            blocks += 1
            await asyncio.sleep(PAUSE_S * chance.uniform(0.5, 1.5))
        writer.close()
        return blocks


async def exchanged(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, block: bytes
) -> bool:
    """Send a block; whether it comes back turned round."""
    writer.write(block)
    async with asyncio.timeout(PATIENCE_S):
        return await reader.readexactly(BLOCK_BYTES) == block[::-1]


async def run(address: str, port: str, count: str, source: str, seed: str) -> None:
    """Be all connections."""
    crowd = Crowd(address, int(port), source, int(seed))
    tasks = [asyncio.create_task(crowd.connection(number)) for number in range(int(count))]
    while crowd.open < len(tasks) and not any(task.done() for task in tasks):
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    crowd.stop.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    wrong = crowd.wrong + [repr(one) for one in results if isinstance(one, BaseException)]
    counts = [one for one in results if isinstance(one, int)]
    said = {"blocks": sum(counts), "least": min(counts, default=0), "wrong": wrong[:9]}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", *words]:
            asyncio.run(serve(*words))
        case ["run", *words]:
            asyncio.run(run(*words))
        case _:
            sys.exit(__doc__)
