# Places, and an apt of our own: packages come from where this machine's apt gets its, and the
# machine's own state is left alone. Sourced by the other scripts, never run.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
cache=${FOS1_VM_CACHE:-$checkout/build/vm}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$cache"

die() { echo "${0##*/}: $*" >&2; exit 125; }

from_apt() { # $1: a pattern of code names -> the address that apt gets this suite from
    apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Identifier: Packages' |
        awk -v suite="$1" '$1 ~ /debian/ && $2 ~ suite { print $1; exit }'
}

sources() { # $1: a suite; one of backports brings the suite below it
    base=${1%-backports}
    debian=$(from_apt '^[a-z]+$')
    security=$(from_apt '-security$')
    [ -n "$debian" ] || die "apt knows no Debian suite; is this Debian?"
    for suite in "$base" "$base-updates" $([ "$base" = "$1" ] || echo "$1"); do
        echo "deb [signed-by=$keyring] $debian $suite main"
    done
    [ -z "$security" ] || echo "deb [signed-by=$keyring] $security $base-security main"
}

apt_of() { # $1: a suite; sets $apt to the options for apt-get and apt-cache
    state=$cache/apt/$1
    mkdir -p "$state/lists/partial" "$state/archives/partial"
    sources "$1" >"$state/sources.list"
    apt="-qq -o Dir::Etc::SourceList=$state/sources.list -o Dir::Etc::SourceParts=-
        -o Dir::State::Lists=$state/lists -o Dir::State::status=/dev/null -o Dir::Cache=$state
        -o APT::Sandbox::User=root"
    case $1 in *-backports) apt="$apt -o APT::Default-Release=$1" ;; esac
    [ -n "$(find "$state/fresh" -mmin -1440 2>/dev/null)" ] && return
    # shellcheck disable=SC2086
    apt-get $apt update >"$state/log" 2>&1 || die "apt-get update failed: $state/log"
    touch "$state/fresh"
}
