# shellcheck shell=bash
# The cache that every clone on this machine shares: KIND/KEY, where KEY is the SHA-256 of all that goes in. Source it.
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/yolo-kserve/cluster

# The SHA-256 of a folder's files (names and contents) and of every further word: key_of DIR [WORD…]
key_of() {
	local folder=$1
	shift
	{
		(cd "$folder" && find . -type f -printf '%P\0' | sort -z | xargs -0r sha256sum)
		printf '%s\n' "$@"
	} | sha256sum | cut -d' ' -f1
}

# cached KIND KEY COMMAND…: the path of KIND/KEY, in REPLY. COMMAND gets an empty folder as its last word and fills it,
# once: a lock makes other clones wait for it, and a folder appears under its key only when it is whole.
# The two keys used last stay, so that two clones that differ do not undo each other's work; older ones are deleted.
cached() {
	local kind=$CACHE/$1 key=$2 lock
	shift 2
	REPLY=$kind/$key
	mkdir -p "$kind"
	exec {lock}>"$kind/lock"
	flock "$lock"
	if [ ! -d "$REPLY" ]; then
		rm -rf "$kind/unfinished"
		mkdir "$kind/unfinished"
		"$@" "$kind/unfinished"
		mv "$kind/unfinished" "$REPLY"
	fi
	touch "$REPLY"
	find "$kind" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\0' | sort -znr | tail -zn +3 | cut -zd' ' -f2- | xargs -0r rm -rf
	exec {lock}>&-
}
