"""Quantities as people write them: "1Gbit", "15kb", "50ms", "5060-5080" -> whole numbers.

Every function returns whole numbers whose unit stands in its name and raises ValueError with a
message for the operator: what is wrong, which units there are, what to write instead. Units are
case-insensitive. Pure; knows nothing of YAML or kinds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Scale:
    """The units of one sort of quantity, smallest first, and how messages speak of it."""

    what: str
    example: str
    units: Mapping[str, int]
    factors: Mapping[str, int]

    @staticmethod
    def of(what: str, example: str, units: Mapping[str, int]) -> Scale:
        """Make a scale whose units are known in any case."""
        return Scale(what, example, units, {name.lower(): n for name, n in units.items()})

    def factor(self, unit: str) -> int | None:
        """Return what the unit stands for, in any case."""
        return self.factors.get(unit.lower())

    def __str__(self) -> str:
        return " ".join(self.units)


DECIMAL = {"bit": 1, "kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9, "Tbit": 10**12}
BINARY = {"Kibit": 1 << 10, "Mibit": 1 << 20, "Gibit": 1 << 30, "Tibit": 1 << 40}
RATE = Scale.of("a rate", "100Mbit", DECIMAL | BINARY)
SIZE = Scale.of("a size", "15kb", {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30})
TIME = Scale.of("a time", "50ms", {"us": 10**3, "ms": 10**6, "s": 10**9})
MOST = (1 << 63) - 1

_WRITTEN = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([A-Za-z/]*)", re.ASCII)
_PER_SECOND = re.compile(r"(k|m|g|t|ki|mi|gi|ti)?(?:bps|b/s)", re.IGNORECASE)
_BIT_PER_SECOND = re.compile(r"((?:k|m|g|t|ki|mi|gi|ti)?bit)/s", re.IGNORECASE)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Ports from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    @property
    def count(self) -> int:
        """How many ports there are."""
        return self.last - self.first + 1

    def overlaps(self, other: PortRange) -> bool:
        """Whether some port is in both."""
        return self.first <= other.last and other.first <= self.last


def rate_bits_per_s(text: str) -> int:
    """Return the rate in bits per second; `bps` and the like are refused as ambiguous."""
    number, unit = _split(text, RATE)
    if match := _PER_SECOND.fullmatch(unit):
        raise ValueError(_ambiguous(text, number, match[1] or ""))
    if match := _BIT_PER_SECOND.fullmatch(unit):
        raise ValueError(f"{shown(text)} is not a rate; write {number}{match[1]}, without /s")
    return _scaled(text, number, unit, RATE)


def size_bytes(text: str | int) -> int:
    """Return the size in bytes; units are 1024-based as in tc(8), a bare number is bytes."""
    if isinstance(text, int):
        return text
    number, unit = _split(text, SIZE)
    if RATE.factor(unit) is not None:
        raise ValueError(f"{shown(text)} counts bits, a size counts bytes; units: {SIZE}")
    return _scaled(text, number, unit or "b", SIZE)


def duration_ns(text: str) -> int:
    """Return the time in nanoseconds."""
    number, unit = _split(text, TIME)
    if not unit:
        raise ValueError(f"{shown(text)} has no unit; write for example {number}s or {number}ms")
    return _scaled(text, number, unit, TIME)


def port_range(text: str | int) -> PortRange:
    """Return the ports that `443` or `5060-5080` names, 1 to 65535."""
    if isinstance(text, int):
        return PortRange(_port(text), text)
    if _PORT.fullmatch(text):
        return PortRange(_port(int(text)), int(text))
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{shown(text)} is no port; write a number from 1 to 65535, or a range such as"
            ' "5060-5080"'
        )
    first, last = _port(int(match[1])), _port(int(match[2]))
    if first > last:
        raise ValueError(f"{shown(text)} runs backwards; write {last}-{first}")
    return PortRange(first, last)


def rate_text(bits_per_s: int) -> str:
    """Write a rate in the largest unit in which it is a whole number."""
    return _largest(bits_per_s, RATE)


def size_text(size_in_bytes: int) -> str:
    """Write a size in the largest unit in which it is a whole number."""
    return _largest(size_in_bytes, SIZE)


def duration_text(time_ns: int) -> str:
    """Write a time (whole microseconds) in the largest unit in which it is a whole number."""
    return _largest(time_ns, TIME)


def shown(value: object) -> str:
    """Quote a value for a message, shortened where it is long."""
    text = str(value)
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in short) + '"'


def shown_number(number: int) -> str:
    """Write a number for a message, shortened where it is long."""
    text = str(number)
    return text if len(text) <= 20 else f"{text[:17]}..."


def _split(text: str, scale: Scale) -> tuple[str, str]:
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{shown(text)} is not {scale.what}; write a number and a unit without a space,"
            f" such as {scale.example}; units: {scale}"
        )
    return match[1], match[2]


def _scaled(text: str, number: str, unit: str, scale: Scale) -> int:
    factor = scale.factor(unit)
    if factor is None:
        fault = f"has the unknown unit {shown(unit)}" if unit else "has no unit"
        raise ValueError(f"{shown(text)} {fault}; units of {scale.what}: {scale}")
    if number.isdigit():
        return _bounded(text, int(number) * factor)
    value = Fraction(number) * factor
    if value.denominator != 1:
        raise ValueError(f"{shown(text)} is no whole number of {next(iter(scale.units))}")
    return _bounded(text, int(value))


def _bounded(text: str, value: int) -> int:
    if value > MOST:
        raise ValueError(f"{shown(text)} is too large")
    return value


def _ambiguous(text: str, number: str, prefix: str) -> str:
    unit = next(u for u in RATE.units if u.lower() == f"{prefix}bit".lower())
    as_bits, as_bytes = f"{number}{unit}", f"{_decimal(Fraction(number) * 8)}{unit}"
    return (
        f"{shown(text)} is ambiguous: tc(8) reads it as bytes per second ({as_bytes}), most people"
        f" as bits per second ({as_bits}); write {as_bytes} or {as_bits}"
    )


def _decimal(value: Fraction) -> str:
    whole, rest = divmod(value.numerator * 10**9 // value.denominator, 10**9)
    return f"{whole}.{rest:09}".rstrip("0").rstrip(".")


def _port(number: int) -> int:
    if not 1 <= number <= 65535:
        raise ValueError(f"{shown_number(number)} is no port; ports are 1 to 65535")
    return number


def _largest(value: int, scale: Scale) -> str:
    fitting = [name for name, factor in scale.units.items() if value and value % factor == 0]
    unit = max(fitting, key=scale.units.__getitem__, default=next(iter(scale.units)))
    return f"{value // scale.units[unit]}{unit}"
