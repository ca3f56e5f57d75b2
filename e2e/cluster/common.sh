# shellcheck shell=bash disable=SC2034
# What every script of this folder shares: messages, the cache, the pinned programs. Source it.
CLUSTER=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=SCRIPTDIR/cache.sh
. "$CLUSTER/cache.sh"

say() { printf '%(%T)T %s\n' -1 "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || die "$1 is missing${2:+: $2}"; }

# timed NAME COMMAND…: runs it, and says how long it took.
timed() {
	local name=$1 begun=$SECONDS
	shift
	"$@"
	say "$name: $((SECONDS - begun)) s"
}

# wait_for SECONDS COMMAND…: returns as soon as the command succeeds, fails when the time is over.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || return 1
		sleep 0.3
	done
}

# The machine's cluster: kind where a Docker engine answers, else bare. PROVIDER=… picks.
provider() {
	local name=${PROVIDER:-}
	[ -n "$name" ] || { if docker info >/dev/null 2>&1; then name=kind; else name=bare; fi; }
	[ -x "$CLUSTER/$name/up" ] || die "PROVIDER=$name: there is bare and kind"
	printf %s "$CLUSTER/$name"
}

# --- programs --------------------------------------------------------------------------------------------------------
PROGRAMS=$CLUSTER/programs
# Nobody debugs them: without DWARF they take an eighth less time to compile.
GO_FLAGS=(-trimpath -buildvcs=false -gcflags=all=-dwarf=false)
export CGO_ENABLED=0 GOTOOLCHAIN=local
unset GOFLAGS

group_key() { key_of "$PROGRAMS/$1" "$(go env GOVERSION GOOS GOARCH)" "${GO_FLAGS[@]}"; }

# The folder of a built group's programs, in the cache.
group_dir() { printf %s "$CACHE/programs/$1/$(group_key "$1")"; }

# The version of the first module that a group's go.mod requires.
pinned_version() { sed -nE '/ v[0-9.]+$/{s/.* //p;q}' "$PROGRAMS/$1/go.mod"; }

# The source folder of a module that a group pins, downloaded if need be: module GROUP PATH
module() { (cd "$PROGRAMS/$1" && go mod download "$2" && go list -m -f '{{.Dir}}' "$2"); }
