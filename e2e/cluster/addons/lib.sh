# shellcheck shell=bash disable=SC2034
# What the installers of this folder share. Source it.
# shellcheck source=SCRIPTDIR/../common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
MANIFESTS=$CLUSTER/manifests
PROVIDER_DIR=$(provider)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# In the cluster's network; the installers themselves run in the machine's, where modules can be downloaded.
kubectl() { "$PROVIDER_DIR/run" kubectl "$@"; }

# Several manifests as one stream: not all of them begin with a line of ---.
documents() {
	local file
	for file in "$@"; do
		echo ---
		cat "$file"
		echo
	done
}

# Keeps or leaves out the CustomResourceDefinitions of the stream it reads.
only_crds() { awk 'BEGIN {RS = "\n---\n"; ORS = "\n---\n"} /(^|\n)kind: CustomResourceDefinition/'; }
without_crds() { awk 'BEGIN {RS = "\n---\n"; ORS = "\n---\n"} !/(^|\n)kind: CustomResourceDefinition/'; }

apply() { kubectl apply --server-side --force-conflicts -f "$1" >/dev/null; }

# Applies a file of CRDs and returns once the API serves them. `kubectl wait` fails on one just made: it is asked again.
apply_crds() {
	apply "$1"
	wait_for 120 kubectl wait --for=condition=Established --timeout=30s -f "$1" || die "CRDs not established: $1"
}

rolled_out() { # rolled_out NAMESPACE DEPLOYMENT…
	local namespace=$1 deployment
	shift
	for deployment in "$@"; do
		kubectl -n "$namespace" rollout status "deploy/${deployment#*/}" --timeout=300s >/dev/null
	done
}

# KServe's controller looks only when it starts for the CRDs of what it can use.
restart_kserve() {
	kubectl -n kserve get deploy kserve-controller-manager >/dev/null 2>&1 || return 0
	kubectl -n kserve rollout restart deploy/kserve-controller-manager >/dev/null
	rolled_out kserve kserve-controller-manager
}
