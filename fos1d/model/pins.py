"""Names of our pins, relative to our folder on bpffs: the only place that says what is ours.

    program/<ns>:<name>/<digest>       a loaded program; ~<map> beside it: maps that it brought
    program/_flow/<digest>             the egress companion of flow tracking
    program/_policy/<digest>           what judges by the policies, for all places
    map/<ns>:<name>/<shape>            an EBPFMap
    state/<ns>:<name>/<what>/<shape>   what a program remembers
    state/_flow/<what>/<shape>         the flow tables, shared by all
    program/_nat/<digest>              what translates addresses, for all interfaces
    state/_policy/<what>/<shape>       what the policies' programs share
    state/_nat/<what>/<shape>          flows, ends, counters and rules of translations
    table/<digest>/<part>              a frozen table
    chain/<interface>/<digest>         the program array of an interface with several programs
    link/<interface>/<hook>:<order>    a TCX link
    cgroup/<path>/~<hook>:<slot>       a link to a cgroup
    ledger/<pin of a map>/<digest>     the keys that we declared in that map
    alias/<path>                       a symlink; its text is the id of our map pinned at that path
    clsact/<interface>                 a symlink; the clsact qdisc of that interface is our making

bpffs refuses dots in names. They are written as colons, which no name here contains by itself but
those of cgroups: there `:`, `%` and `~` are written as %3A, %25 and %7E.
"""

from __future__ import annotations

from urllib.parse import unquote

from fos1d.model.identity import ResourceId

SHARED_FLOW = "_flow"
SHARED_POLICY = "_policy"
SHARED_NAT = "_nat"
STATE = "state"
TABLES = "table"


def encode(name: str) -> str:
    """Return a name as bpffs accepts it."""
    return name.replace(".", ":")


def decode(name: str) -> str:
    """Undo `encode`."""
    return name.replace(":", ".")


def owner_name(identity: ResourceId) -> str:
    """Return the folder name of a resource."""
    return encode(f"{identity.namespace}:{identity.name}")


def map_family(identity: ResourceId) -> str:
    """Return the folder of an EBPFMap's shapes."""
    return f"map/{owner_name(identity)}"


def program_family(owner: str) -> str:
    """Return the folder of an owner's programs."""
    return f"program/{owner}"


def owner_of_program(path: str) -> str:
    """Return the owner of the program at `path`."""
    return path.split("/")[1]


def interface_of_chain(path: str) -> str:
    """Return the interface of the program array at `path`."""
    return decode(path.split("/")[1])


def state_family(owner: str, what: str) -> str:
    """Return the folder of one of an owner's state maps."""
    return f"{STATE}/{owner}/{what}"


def chain_family(interface: str) -> str:
    """Return the folder of an interface's program arrays."""
    return f"chain/{encode(interface)}"


def table_path(digest: str, part: str) -> str:
    """Return the pin of a part of a frozen table."""
    return f"{TABLES}/{digest}/{part}"


def link_path(interface: str, hook: str, order: int) -> str:
    """Return the pin of a TCX link."""
    return f"link/{encode(interface)}/{hook}:{order}"


CGROUP_LINKS = "cgroup"
_ESCAPED = str.maketrans({".": ":", ":": "%3A", "%": "%25", "~": "%7E"})


def cgroup_link_path(cgroup: str, hook: str, slot: int) -> str:
    """Return the pin of a link to a cgroup, given by its path below the root; `.` is the root."""
    folder = "" if cgroup == "." else f"{cgroup.translate(_ESCAPED)}/"
    return f"{CGROUP_LINKS}/{folder}~{hook}:{slot}"


def parse_cgroup_link_path(path: str) -> tuple[str, str, int]:
    """Undo `cgroup_link_path`: return cgroup, hook and slot."""
    folder, _, name = path.removeprefix(f"{CGROUP_LINKS}/").rpartition("/")
    hook, _, slot = name.removeprefix("~").rpartition(":")
    return unquote(decode(folder)) or ".", hook, int(slot)


def clsact_mark(interface: str) -> str:
    """Return the note that an interface's clsact qdisc is ours."""
    return f"clsact/{encode(interface)}"
