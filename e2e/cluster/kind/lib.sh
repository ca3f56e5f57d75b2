# shellcheck shell=bash disable=SC2034
# What the scripts of the kind provider share. Source it.
KIND=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=SCRIPTDIR/../common.sh
. "$KIND/../common.sh"
NAME=yolo-kserve
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/yolo-kserve/cluster
KUBECONFIG=$STATE/kind.kubeconfig
export KUBECONFIG

kind() { "$(group_dir kind)/kind" "$@"; }
is_up() { kind get clusters 2>/dev/null | grep -qx "$NAME"; }
