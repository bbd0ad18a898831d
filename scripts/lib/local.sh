# shellcheck shell=bash
# Nodes as child processes of this script, all on this machine. Sourced after cluster.sh by scripts that run a cluster
# on loopback.

READY_S=60 # from the start of the nodes to a cluster that serves
STOP_S=20  # from SIGTERM to SIGKILL
declare -A PIDS=()

start_node() {
    # A session of its own: Ctrl-C then reaches this script alone, which stops the nodes in an orderly way.
    setsid "$(node_program "$1")" --config "$(node_config "$1")" >>"$(node_log "$1")" 2>&1 </dev/null &
    PIDS[$1]=$!
    echo "$!" >"$CLUSTER_DIR/$1.pid"
}

node_lives() { [ -n "${PIDS[$1]:-}" ] && kill -0 "${PIDS[$1]}" 2>/dev/null; }

any_node_lives() {
    local node
    for node in "${NODES[@]}"; do
        if node_lives "$node"; then return 0; fi
    done
    return 1
}

stop_nodes() {
    local node deadline=$((SECONDS + STOP_S))
    for node in "${!PIDS[@]}"; do
        kill -TERM "${PIDS[$node]}" 2>/dev/null || true
    done
    while any_node_lives && [ "$SECONDS" -lt "$deadline" ]; do
        sleep 0.1
    done
    for node in "${!PIDS[@]}"; do
        if node_lives "$node"; then
            say "node $node did not stop within $STOP_S s and was killed"
            kill -KILL "${PIDS[$node]}" 2>/dev/null || true
        fi
        wait "${PIDS[$node]}" 2>/dev/null || true
    done
}

# The end of a node's log, for the reader who has to find out why.
blame() {
    say "node $1 ended; the end of $(node_log "$1"):"
    tail -n 15 "$(node_log "$1")" >&2
}

await_ready() {
    local node deadline=$((SECONDS + READY_S))
    until cluster_is_ready; do
        for node in "${NODES[@]}"; do
            if ! node_lives "$node"; then
                blame "$node"
                exit 1
            fi
        done
        if [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 5 "$CLUSTER_DIR"/*.log >&2
            die "the cluster was not ready within $READY_S s"
        fi
        sleep 0.2
    done
}

# Writes what the nodes need, starts them, waits until they serve, and puts the demo data.
cluster_up() {
    local node
    cluster_certificates
    cluster_configs
    for node in "${NODES[@]}"; do
        start_node "$node"
    done
    await_ready
    cluster_demo_data || die "the demo accounts and handsets could not be set"
}
