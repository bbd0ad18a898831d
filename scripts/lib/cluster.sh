# shellcheck shell=bash
# A cluster of two data nodes and a witness: its files, its certificates, its demo data. Sourced by scripts/run and
# scripts/lab, which say where each node lives by filling in these:

BIN_DIR=            # holds smsc-node and smscctl
CLUSTER_DIR=        # configuration, certificates, data and logs of all nodes
CLUSTER_NAME=demo
FLOATING_MODE=      # loopback | interface
FLOATING_ADDRESS=   # as 127.0.0.100/32
FLOATING_INTERFACE= # with FLOATING_MODE=interface
SMPP_PORT=2775
SMPP_TLS_PORT=3550 # with SMSC_SMPP_TLS in the environment
SMPP_TLS_ID=255    # of no node: in the certificate of the floating address
QUORUM_DEVICE= # fence, gateway or operator, for two data nodes alone
GATEWAY=       # with QUORUM_DEVICE=gateway
declare -A NODE_ID NODE_ROLE NODE_RAFT NODE_HTTP
NODES=(a b w)
NODE_ID=([a]=1 [b]=2 [w]=3)
NODE_ROLE=([a]=data [b]=data [w]=witness)
NODE_RAFT=() # NODE -> address:port of its gRPC
NODE_HTTP=() # NODE -> address:port of metrics and health

say() { printf '%s\n' "$*" >&2; }
die() {
    say "$(basename "$0"): $*"
    exit 1
}

node_config() { printf '%s/%s.toml' "$CLUSTER_DIR" "$1"; }
node_log() { printf '%s/%s.log' "$CLUSTER_DIR" "$1"; }
# The program of node $1: one of its own, where an upgrade has put one.
node_program() {
    local own=$CLUSTER_DIR/bin/$1/smsc-node
    if [ -x "$own" ]; then printf '%s' "$own"; else printf '%s/smsc-node' "$BIN_DIR"; fi
}
node_socket() { printf '%s/%s.sock' "$CLUSTER_DIR" "$1"; }

# smscctl through the socket of node $1.
node_ctl() {
    local node=$1
    shift
    "$BIN_DIR/smscctl" --socket "$(node_socket "$node")" "$@"
}

# Makes what is missing: the cluster's authority and a certificate for each node.
cluster_certificates() {
    local dir=$CLUSTER_DIR/tls node host
    (umask 077 && mkdir -p "$dir")
    [ -e "$dir/ca.pem" ] || "$BIN_DIR/smscctl" cert ca --dir "$dir" --cluster "$CLUSTER_NAME" >/dev/null ||
        die "cannot make the cluster's certificates in $dir"
    for node in "${NODES[@]}"; do
        host=${NODE_RAFT[$node]%:*}
        [ -e "$dir/node-${NODE_ID[$node]}.pem" ] ||
            "$BIN_DIR/smscctl" cert node --dir "$dir" --id "${NODE_ID[$node]}" --name "$node" --host "$host" >/dev/null ||
            die "cannot make a certificate for node $node in $dir"
    done
    if [ -n "${SMSC_SMPP_TLS:-}" ] && [ ! -e "$dir/node-$SMPP_TLS_ID.pem" ]; then
        "$BIN_DIR/smscctl" cert node --dir "$dir" --id "$SMPP_TLS_ID" --name smpp --host "${FLOATING_ADDRESS%/*}" >/dev/null ||
            die "cannot make a certificate for the floating address in $dir"
    fi
}

# Writes the configuration of each node; what stood there before is replaced.
cluster_configs() {
    local node
    (umask 077 && mkdir -p "$CLUSTER_DIR")
    for node in "${NODES[@]}"; do
        node_config_text "$node" >"$(node_config "$node")"
        "$BIN_DIR/smsc-node" check-config "$(node_config "$node")" >/dev/null || exit
    done
}

# The quorum device of two nodes alone; nothing where there is a witness. The fence is a script in CLUSTER_DIR.
quorum_text() {
    [ -n "$QUORUM_DEVICE" ] || return 0
    printf '\n[quorum]\ndevice = "%s"\n' "$QUORUM_DEVICE"
    if [ "$QUORUM_DEVICE" = gateway ]; then printf 'gateway = "%s"\n' "$GATEWAY"; fi
    if [ "$QUORUM_DEVICE" = fence ]; then
        # A busy machine may take a second for the script; the leader is to win.
        printf 'fence_command = ["%s/fence"]\nstandby_delay_ms = 10000\n' "$CLUSTER_DIR"
    fi
}

# The configuration of node $1. Paths in it start at CLUSTER_DIR.
node_config_text() {
    local node=$1 other id=${NODE_ID[$1]}
    cat <<EOF
cluster = "$CLUSTER_NAME"
node_id = $id
name = "$node"
role = "${NODE_ROLE[$node]}"
data_dir = "$node"

[raft]
listen = "${NODE_RAFT[$node]}"
bootstrap = true
members = [
EOF
    for other in "${NODES[@]}"; do
        printf '    { id = %s, name = "%s", addr = "%s", role = "%s" },\n' \
            "${NODE_ID[$other]}" "$other" "${NODE_RAFT[$other]}" "${NODE_ROLE[$other]}"
    done
    cat <<EOF
]

$(quorum_text)
[tls]
ca = "tls/ca.pem"
cert = "tls/node-$id.pem"
key = "tls/node-$id.key"

[admin]
socket = "$node.sock"
drills = true

[http]
listen = "${NODE_HTTP[$node]}"

[log]
level = "${SMSC_LOG_LEVEL:-info}"
EOF
    if [ -n "${SMSC_LAB_DISK_MIB:-}" ]; then
        # Sizes that fit a small disk.
        cat <<EOF

[store]
log_segment_mib = 16
disk_free_min_mib = 64
EOF
    fi
    [ "${NODE_ROLE[$node]}" = data ] || return 0
    cat <<EOF

[smpp]
listen_port = $SMPP_PORT

[floating_ip]
mode = "$FLOATING_MODE"
addresses = ["$FLOATING_ADDRESS"]
EOF
    if [ "$FLOATING_MODE" = interface ]; then
        printf 'interface = "%s"\n' "$FLOATING_INTERFACE"
    fi
    if [ -n "${SMSC_SMPP_TLS:-}" ]; then
        printf '\n[smpp.tls]\nlisten_port = %s\ncert = "tls/node-%s.pem"\nkey = "tls/node-%s.key"\n' \
            "$SMPP_TLS_PORT" "$SMPP_TLS_ID" "$SMPP_TLS_ID"
    fi
    if [ -n "${SMSC_CDR:-}" ]; then
        printf '\n[cdr]\ndir = "%s.cdr"\nrotate_after_s = 10\n' "$node"
    fi
}

# A number out of `status --json` as the first node that answers tells it; fails if none with a majority does.
cluster_number() {
    local node status
    for node in "${NODES[@]}"; do
        status=$(timeout 2 "$BIN_DIR/smscctl" --socket "$(node_socket "$node")" status --json 2>/dev/null) || continue
        grep -qE '"quorum_healthy": *true' <<<"$status" || continue
        # The first one is the answer's own; those further down are the members'.
        [[ $status =~ \"$1\":\ *\"?([0-9]+) ]] || continue
        echo "${BASH_REMATCH[1]}"
        return 0
    done
    return 1
}

# Whether the text of `status --json` $1, without blanks, tells of a cluster that is whole: all members answer, one leads
# and holds the address, and the standby would take over.
is_whole() {
    [[ $1 == *'"quorum_healthy":true'* && $1 == *'"unreachable":[]'* ]] &&
        ! grep -qE '"role":"data"[^}]*"not_ready":"[^"]' <<<"$1" && ! grep -q '"address_holder":0' <<<"$1"
}

# The name of the node with id $1; fails if there is none.
node_of_id() {
    local node
    for node in "${NODES[@]}"; do
        if [ "${NODE_ID[$node]}" = "$1" ]; then
            echo "$node"
            return 0
        fi
    done
    return 1
}

# The node that leads now; fails if none does.
cluster_leader() {
    local id
    id=$(cluster_number leader_id) && node_of_id "$id"
}

# Whether a majority answers, somebody leads, and the floating address is held.
cluster_is_ready() {
    local holder
    holder=$(cluster_number address_holder) && [ "$holder" -gt 0 ]
}

# smscctl on the leader, which may change between asking and doing: tried again for 10 s.
leader_ctl() {
    local leader answer tries
    for ((tries = 0; tries < 50; tries++)); do
        if leader=$(cluster_leader) && answer=$(node_ctl "$leader" "$@" 2>&1); then
            return 0
        fi
        sleep 0.2
    done
    say "smscctl $*: ${answer:-no node leads}"
    return 1
}

# Two accounts and three ranges of simulated handsets; puts them anew if they are there.
cluster_demo_data() {
    leader_ctl account put esme1 --password secret1 --short-code 1000 &&
        leader_ctl account put esme2 --password secret2 --short-code 2000 &&
        leader_ctl handset put 1555 deliver &&
        leader_ctl handset put 1666 fail &&
        leader_ctl handset put 1777 absent --absent-ms 7000
}
