"""python -m tests.fuzz SECONDS [TARGET...]: fuzz each target for so long, one after the other.

Inputs that were found go to build/fuzz/<target>/corpus, those that fail to build/fuzz/<target>/.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import lab
from tests.fuzz.seeds import TARGETS, seeds_of, words_of

BUILD = Path("build/fuzz")
# Atheris itself keeps some 7 kB an input, so the memory of a long run is not the target's.
LIMITS = ("-timeout=10", "-rss_limit_mb=4096", "-print_final_stats=1", "-verbosity=1")
LONGEST = {"manifests": 4096, "netset": 4096, "packets": 512}
ROUNDING_S = 120


def main(words: Sequence[str]) -> int:
    """Fuzz; return 1 if a target failed."""
    seconds, names = int(words[0]), list(words[1:]) or list(TARGETS)
    failed = [name for name in names if not fuzz(name, seconds)]
    for name in failed:
        print(f"fuzz {name}: FAILED; the input is in {BUILD / name}")
    return 1 if failed else 0


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; return whether it held."""
    if name == "packets" and not lab.is_root():
        print("fuzz packets: left out, it needs root")
        return True
    corpus = BUILD / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds_of(name)):
        (corpus / f"seed-{number:04}").write_bytes(seed)
    print(f"fuzz {name}: {seconds} s", flush=True)
    with prepared(name) as pins:
        command = [sys.executable, "-m", "tests.fuzz.engine", name, *pins, "--", *LIMITS]
        command += [f"-max_total_time={seconds}", f"-max_len={LONGEST[name]}"]
        command += [f"-artifact_prefix={BUILD / name}/", *_words(name), str(corpus)]
        return _run(command, BUILD / name / "log", seconds + ROUNDING_S)


def _words(name: str) -> list[str]:
    if not (text := words_of(name)):
        return []
    place = BUILD / name / "words"
    place.write_text(text)
    return [f"-dict={place}"]


@contextmanager
def prepared(name: str) -> Iterator[list[str]]:
    """Load what the target needs; yield the words by which its process finds it."""
    if name != "packets":
        yield []
        return
    from tests.fuzz.packets import pinned

    with pinned() as pins:
        yield [str(pin) for pin in pins]


def _run(command: Sequence[str], log: Path, timeout_s: int) -> bool:
    with log.open("wb") as out:
        done = subprocess.run(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    lines = log.read_text(errors="replace").splitlines()
    wanted = ("stat::number_of_executed_units", "stat::peak_rss_mb") if not done.returncode else ()
    shown = [line for line in lines if line.startswith(wanted)] if wanted else lines[-40:]
    print("\n".join(f"  {line}" for line in shown), flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
