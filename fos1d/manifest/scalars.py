"""Plain scalars: what is text, what is a number, and what readers of YAML disagree about.

YAML 1.1, YAML 1.2 and people read `022`, `1_000`, `12:30`, `yes` and `1e3` differently. All of
these are refused with what to write instead; what is left means the same to everyone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NoReturn

from fos1d.quantity import shown

Scalar = str | int | bool | None


class Hex(int):
    """A whole number that was written in hex; `text` keeps its digits, leading zeros and all."""

    text: str

    def __new__(cls, text: str) -> Hex:
        """Read `0x` and hex digits."""
        number = super().__new__(cls, text, 16)
        number.text = text
        return number


LONGEST_HEX = 2 + 2 * 512
LONGEST_DECIMAL = 20
LONGEST_REMEMBERED = 64

_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None, "": None}
_LOOKALIKES = {
    **dict.fromkeys(("yes", "on", "y"), "true"),
    **dict.fromkeys(("no", "off", "n"), "false"),
    **{word: word for word in ("true", "false", "null")},
}
_SUSPECT = frozenset("0123456789+-.~=<")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_HEX = re.compile(r"0x[0-9a-fA-F]+", re.ASCII)
_LEADING_ZERO = re.compile(r"[-+]?0o?([0-9_]+)", re.ASCII)
_OTHER_NUMBER = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|[0-9][0-9_]*)", re.ASCII
)
_FRACTION = re.compile(r"[-+]?(?:\.[0-9]|[0-9])[0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SIXTY = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|nan)", re.IGNORECASE)


def plain(text: str) -> Scalar:
    """Return what an unquoted scalar means.

    Raises ValueError, with what to write instead, where readers of YAML disagree.
    """
    return _remembered(text) if len(text) <= LONGEST_REMEMBERED else _plain(text)


def _plain(text: str) -> Scalar:
    if text in _WORDS:
        return _WORDS[text]
    if text[0].isalpha():
        return _word(text)
    if text[0] not in _SUSPECT:
        return text
    if _DECIMAL.fullmatch(text):
        return _decimal(text)
    if _HEX.fullmatch(text):
        return _hex(text)
    _refuse_surprise(text)
    return text


_remembered = lru_cache(maxsize=4096)(_plain)  # field names and common values come again and again


def _word(text: str) -> str:
    if (meant := _LOOKALIKES.get(text.lower())) is not None:
        kind = "null" if meant == "null" else "a truth value"
        _refuse(text, f"{kind} to some readers of YAML and text to others", meant)
    return text


def _decimal(text: str) -> int:
    if len(text) > LONGEST_DECIMAL:
        raise ValueError(f"the number {shown(text)} is too long; write it in quotes if it is text")
    return int(text)


def _hex(text: str) -> int:
    if len(text) > LONGEST_HEX:
        raise ValueError(f"the number {shown(text)} is too long; write it in quotes")
    return Hex(text)


def _refuse_surprise(text: str) -> None:
    if text == "~":
        raise ValueError('"~" is null to YAML; remove the line, or write "~" in quotes for text')
    if text in ("=", "<<"):
        _refuse(text, "a YAML 1.1 keyword", None)
    if _NOT_FINITE.fullmatch(text):
        _refuse(text, "not a finite number", None)
    if match := _LEADING_ZERO.fullmatch(text):
        _refuse_leading_zero(text, match[1].replace("_", ""))
    if _OTHER_NUMBER.fullmatch(text):
        _refuse(text, "a number to some readers of YAML and text to others", _as_number(text))
    if _SIXTY.fullmatch(text):
        _refuse(text, "a number in base 60 to YAML 1.1", None)
    if _DATE.fullmatch(text):
        _refuse(text, "a date to YAML 1.1", None)
    if _FRACTION.fullmatch(text):
        _refuse(text, "a number with a fraction or an exponent, which no field takes", None)


def _refuse_leading_zero(text: str, digits: str) -> NoReturn:
    if not digits or len(digits) > LONGEST_DECIMAL:
        _refuse(text, "a number with a leading zero", None)
    decimal = int(digits)
    if "o" in text and set(digits) <= set("01234567"):
        number = str(int(digits, 8))
        _refuse(text, f"octal ({number}) to some readers of YAML, text to others", number)
    if set(digits) <= set("01234567"):
        octal = int(digits, 8)
        advice = str(decimal) if octal == decimal else f"{octal} or {decimal}"
        _refuse(text, f"octal ({octal}) to some readers of YAML, decimal to others", advice)
    _refuse(text, "a number with a leading zero", str(decimal))


def _as_number(text: str) -> str | None:
    bare = text.replace("_", "").removeprefix("+")
    try:
        number = int(bare, 0)
    except ValueError:
        return None
    return hex(number) if bare[:2] in ("0x", "0X") else str(number)


def _refuse(text: str, reads_as: str, instead: str | None) -> NoReturn:
    quoted = f'"{text}" in quotes for text' if len(text) <= 40 else "it in quotes for text"
    advice = f"{instead} or {quoted}" if instead else quoted
    raise ValueError(f"unquoted {shown(text)} is {reads_as}; write {advice}")
