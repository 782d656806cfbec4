"""Names as people write them -> names that are known to be good.

Belongs here: names of resources, interfaces, files, functions, cgroups. Every function raises
ValueError with what is allowed.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NewType

from fos1d.quantity import shown

InterfaceName = NewType("InterfaceName", str)
InterfacePattern = NewType("InterfacePattern", str)
FileReference = NewType("FileReference", str)
FunctionName = NewType("FunctionName", str)

LONGEST_NAME = 253
LONGEST_LABEL = 63
LONGEST_INTERFACE_BYTES = 15
LONGEST_PATTERN = 128
BPFFS = "/sys/fs/bpf"
OWN_ROOT = "fos1"
LONGEST_FILE_BYTES = 255
CGROUP_MOUNT = "/sys/fs/cgroup"

_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
LABEL = re.compile(_DNS_LABEL, re.ASCII)
SUBDOMAIN = re.compile(rf"{_DNS_LABEL}(\.{_DNS_LABEL})*", re.ASCII)
_LABEL_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", re.ASCII)
_GLOB = re.compile(r"[*?\[]")
_BRACKETED = re.compile(r"\[!?\]?[^\]]*\]")
_NOT_IN_INTERFACE = re.compile(r"[\s/:\x00-\x20\x7f]")
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


def resource_name(text: str) -> str:
    """Return a resource's name: a DNS-1123 subdomain, at most 253 characters."""
    check_length(text, LONGEST_NAME)
    if not SUBDOMAIN.fullmatch(text):
        allowed = 'lower-case letters, digits, "-" and ".", with a letter or digit at both ends'
        raise ValueError(f"{shown(text)} is no name; use {allowed}{_such_as(text, '.')}")
    return text


def namespace(text: str) -> str:
    """Return a name space: a DNS-1123 label, at most 63 characters."""
    check_length(text, LONGEST_LABEL)
    if not LABEL.fullmatch(text):
        allowed = 'lower-case letters, digits and "-", with a letter or digit at both ends'
        raise ValueError(f"{shown(text)} is no name space; use {allowed}{_such_as(text, '-')}")
    return text


def check_length(text: str, most: int) -> None:
    """Raise ValueError where `text` has more than `most` characters."""
    if len(text) > most:
        raise ValueError(f"{shown(text)} has {len(text)} characters; at most {most} are allowed")


def _such_as(text: str, dot: str) -> str:
    low = re.sub(r"[^a-z0-9.]+", "-", text.lower()).replace(".", dot)
    parts = [part.strip("-") for part in low.split(".")]
    name = ".".join(part for part in parts if part)
    return f", such as {shown(name)}" if name else ""


_ALLOWED = 'use letters, digits, "-", "_" and ".", with a letter or digit at both ends'


def label_key(text: str) -> str:
    """Return a label's key: a name of up to 63 characters, perhaps after `prefix/`."""
    prefix, slash, name = text.rpartition("/")
    if slash and (len(prefix) > LONGEST_NAME or not SUBDOMAIN.fullmatch(prefix)):
        raise ValueError(f'{shown(text)}: what stands before the "/" must be a DNS name')
    check_length(name, LONGEST_LABEL)
    if not _LABEL_PART.fullmatch(name):
        raise ValueError(f"{shown(text)} is no label key; {_ALLOWED}")
    return text


def label_value(text: str) -> str:
    """Return a label's value: up to 63 characters, perhaps none."""
    check_length(text, LONGEST_LABEL)
    if text and not _LABEL_PART.fullmatch(text):
        raise ValueError(f"{shown(text)} is no label value; {_ALLOWED}")
    return text


def interface_name(text: str) -> InterfaceName:
    """Return the name of one interface, as the kernel's dev_valid_name() allows it."""
    if _GLOB.search(text):
        raise ValueError(f"{shown(text)} is a pattern; name one interface here")
    return InterfaceName(_interface(text, text))


def interface_pattern(text: str) -> InterfacePattern:
    """Return the name of an interface, or a shell glob that may match several."""
    check_length(text, LONGEST_PATTERN)
    shortest_match = _BRACKETED.sub("x", text).replace("*", "")
    if "[" in shortest_match:
        raise ValueError(f"{shown(text)} has a [ without its ]")
    return InterfacePattern(_interface(text, shortest_match))


def _interface(text: str, shortest_match: str) -> str:
    if not text or text in (".", ".."):
        raise ValueError(f"{shown(text)} is no interface name")
    if _NOT_IN_INTERFACE.search(text):
        raise ValueError(f'{shown(text)} is no interface name; it has a space, "/" or ":"')
    if len(shortest_match.encode()) > LONGEST_INTERFACE_BYTES:
        raise ValueError(
            f"{shown(text)} is too long for an interface; the kernel allows"
            f" {LONGEST_INTERFACE_BYTES} bytes"
        )
    return text


def file_reference(text: str) -> FileReference:
    """Return a path within the source; where it leads depends on the manifest (files.py)."""
    if text.startswith("/"):
        raise ValueError(
            f"{shown(text)} is absolute; write the path from the root of the source, or from the"
            " manifest's folder with ./ before it"
        )
    if not text or text.endswith("/") or "//" in text or not text.isprintable():
        raise ValueError(f"{shown(text)} is no path of a file")
    return FileReference(text)


def function_name(text: str) -> FunctionName:
    """Return the name of a function in C."""
    if not _FUNCTION.fullmatch(text):
        raise ValueError(f"{shown(text)} is no function's name; use letters, digits and _")
    return FunctionName(text)


def cgroup_path(text: str) -> PurePosixPath:
    """Return a path relative to the cgroup2 root; `.` is the root itself."""
    if f"{text}/".startswith(f"{CGROUP_MOUNT}/"):
        below = text.removeprefix(CGROUP_MOUNT).strip("/") or "/"
        raise ValueError(f"{shown(text)} names the mount point; write {shown(below)}, below it")
    if not text or not text.isprintable():
        raise ValueError(f'{shown(text)} is no path; the root is "/"')
    below = text.strip("/")
    if below and any(part in ("", ".", "..") for part in below.split("/")):
        raise ValueError(f"{shown(text)} is no plain path; write it without //, . and ..")
    return PurePosixPath(below or ".")


def pin_path(text: str) -> PurePosixPath:
    """Return an absolute path below /sys/fs/bpf/ that is not the daemon's own."""
    if f"{text}/".startswith(f"{BPFFS}/") and not text.removeprefix(BPFFS).strip("/"):
        raise ValueError(f"{shown(text)} names no pin; write {BPFFS}/ and a name")
    if not text.startswith(f"{BPFFS}/"):
        name = text.rstrip("/").rpartition("/")[2].replace(".", "_") or "name"
        raise ValueError(f"{shown(text)} is not below {BPFFS}/; write {BPFFS}/{name}")
    parts = text.removeprefix(f"{BPFFS}/").split("/")
    if any(part in ("", ".", "..") for part in parts) or not text.isprintable():
        raise ValueError(f"{shown(text)} is no plain path; write it without //, . and ..")
    if "." in text:
        plain = text.replace(".", "_")
        raise ValueError(f"{shown(text)} has a dot, which bpffs refuses in names; write {plain}")
    if parts[0] == OWN_ROOT:
        raise ValueError(f"{shown(text)} is in the daemon's own folder; choose another one")
    if max(len(part.encode()) for part in parts) > LONGEST_FILE_BYTES:
        raise ValueError(f"{shown(text)} has a name of more than {LONGEST_FILE_BYTES} bytes")
    return PurePosixPath(text)
