# shellcheck shell=bash disable=SC2034
# What the scripts of the bare provider share: names, addresses, paths, the way into the node. Source it.
BARE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=SCRIPTDIR/../common.sh
. "$BARE/../common.sh"

NODE=yolo-kserve # the node's name, and its network namespace's and cgroups'
NODE_IP=10.88.0.2 # on a portless bridge, inside the namespace only
POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16
API_IP=10.96.0.1
DNS_IP=10.96.0.10

# One cluster a machine, whichever clone it came from. RUN ends with the cluster; the image store outlives it.
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/yolo-kserve/cluster
RUN=$STATE/run
PKI=$RUN/pki
LOG=$RUN/log
DATA=$RUN/data
STORE=$STATE/containerd

# The process id of the node's init, or a failure when the node is down.
node_pid() {
	local pid
	pid=$(cat "$RUN/node.pid" 2>/dev/null) && grep -qs bare/node/init "/proc/$pid/cmdline" && printf %s "$pid"
}

# in_node COMMAND…: runs it inside the node, with its mounts, network, processes and cgroups.
in_node() {
	local pid
	pid=$(node_pid) || die "the node is not up"
	nsenter -t "$pid" -m -n -p -u -i -C -- "$@"
}

node_ctr() { in_node ctr -a /run/containerd/containerd.sock -n k8s.io "$@"; }

# kubectl with the machine's own files, in the node's network.
node_kubectl() { nsenter --net="/run/netns/$NODE" "$RUN/bin/kubectl" --kubeconfig "$RUN/admin.kubeconfig" "$@"; }

start() { # start NAME COMMAND…: a daemon inside the node, restarted when it exits, its log in NAME.log
	local name=$1 pid
	shift
	pid=$(node_pid)
	setsid nsenter -t "$pid" -m -n -p -u -i -C -- "$BARE/node/supervise" "$@" >>"$LOG/$name.log" 2>&1 </dev/null 9>&- &
	disown
}

# state_lock: no two of up and down run at once; daemons started under it close fd 9.
state_lock() {
	mkdir -p "$STATE"
	exec 9>"$STATE/lock"
	flock 9
}
