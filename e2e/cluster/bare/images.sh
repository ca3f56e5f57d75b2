# shellcheck shell=bash
# Container images without Docker and without a registry: buildah makes archives in the cache, containerd reads them. Source it.
PYTHON_BASE=docker.io/library/python:3.11-slim-bookworm

bh() { buildah --root "$CACHE/buildah" --runroot "$CACHE/buildah/run" --storage-driver overlay "$@"; }

slug() { printf %s "$1" | tr '/:' '__'; }

# An image of one program and nothing else: static_image NAME GROUP PROGRAM PATH. Its folder in the cache, in REPLY.
static_image() { cached "images/$(slug "$1")" "$(printf '%s\n' "$@" "$(group_key "$2")" | sha256sum | cut -d' ' -f1)" make_static "$@"; }

make_static() { # make_static NAME GROUP PROGRAM PATH DIR
	local name=$1 program path=$4 out=$5 container
	program=$(group_dir "$2")/$3
	container=$(bh from scratch)
	mkdir -m 1777 "$out/tmp"
	bh add -q "$container" "$out/tmp" /tmp >/dev/null
	bh add -q "$container" "$program" "$path" >/dev/null
	rmdir "$out/tmp"
	bh config --entrypoint "[\"$path\"]" --user 65532:65532 "$container"
	bh commit -q --rm "$container" "docker-archive:$out/image.tar:$name" >/dev/null
}

# The stand-in for python:3.11-slim-bookworm, for Dockerfiles and as an image of its own.
base_image() {
	local key
	key=$(key_of "$BARE/base")
	cached images/base "$key" make_base
	if ! bh inspect --type image "localhost/base:$key" >/dev/null 2>&1; then
		bh pull -q "docker-archive:$REPLY/image.tar" >/dev/null
		bh tag "$PYTHON_BASE" "localhost/base:$key"
	fi
	bh tag "localhost/base:$key" "$PYTHON_BASE"
}

make_base() { # make_base DIR
	local out=$1 container
	timed debootstrap "$BARE/base/make" "$out/root" >"$out/debootstrap.log" 2>&1 || { cat "$out/debootstrap.log" >&2; exit 1; }
	container=$(bh from scratch)
	bh add -q "$container" "$out/root" / >/dev/null
	bh config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin --env LANG=C.UTF-8 --cmd python3 "$container"
	bh commit -q --rm "$container" "docker-archive:$out/image.tar:$PYTHON_BASE" >/dev/null
	rm -rf "$out/root" "$out/debootstrap.log"
}

# An ordinary Dockerfile: dockerfile_image NAME DIR FILE [ARG…], where DIR is the context and ARG goes to buildah.
# Nothing is built while the context's files, the Dockerfile, the arguments and the base stay.
dockerfile_image() {
	local name=$1 context=$2 file=$3 key
	shift 3
	key=$( { context_sums "$context"; sha256sum <"$file"; printf '%s\n' "$@" "$(key_of "$BARE/base")"; } | sha256sum | cut -d' ' -f1)
	base_image
	cached "images/$(slug "$name")" "$key" make_dockerfile "$name" "$context" "$file" "$@"
}

# A checksum for each of a context's files that git does not ignore, and which of them can be run. A .dockerignore that
# begins with * names what is let in.
context_sums() (
	paths=()
	cd "$1" || exit
	if [ "$(grep -m 1 '^[^#]' .dockerignore 2>/dev/null)" = '*' ]; then
		mapfile -t paths < <(sed -nE '/^!/{s/^!//p;d}; /^#|^\*?$/d; s/.*/:(exclude,glob)&\n:(exclude,glob)&\/**/p' .dockerignore)
	fi
	list=$(mktemp)
	git ls-files -z --cached --others --exclude-standard -- "${paths[@]}" >"$list" 2>/dev/null || find . -type f -print0 >"$list"
	xargs -0r ls -d --zero -- 2>/dev/null <"$list" | sort -zu >"$list.there"
	xargs -0r sha256sum <"$list.there"
	while IFS= read -rd '' path; do [ ! -x "$path" ] || printf '%s\n' "$path"; done <"$list.there"
	rm "$list" "$list.there"
)

# Runs the build with this machine's network, certificates and package indexes, mounted and not copied in.
make_dockerfile() { # make_dockerfile NAME DIR FILE [ARG…] OUT
	local name=$1 context=$2 file=$3 out=${*: -1} path
	local -a mounts=() arguments=("${@:4:$#-4}")
	for path in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf /etc/uv/uv.toml; do
		[ ! -f "$path" ] || mounts+=(-v "$path:$path:ro")
	done
	bh bud --isolation chroot --network host --pull-never --layers "${mounts[@]}" "${arguments[@]}" -t "$name" -f "$file" "$context" >&2
	bh push -q "$name" "docker-archive:$out/image.tar:$name"
}

# Brings a cached image into the running node, unless it is there: import NAME FOLDER
import() {
	local stamp
	stamp=$STORE/imported/$(slug "$1")
	[ "$(cat "$stamp" 2>/dev/null)" != "$2" ] || return 0
	node_ctr images import - <"$2/image.tar" >/dev/null
	mkdir -p "${stamp%/*}"
	printf %s "$2" >"$stamp"
}
