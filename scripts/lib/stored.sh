# shellcheck shell=bash
# scripts/bench stored: what millions of stored messages cost a start, a takeover, a new node, memory and disk. Sourced by
# scripts/bench after backlog.sh and scale.sh, whose helpers it uses.

STORED_FEW=10000
STORED_PREFIX=4930  # of an account that never binds
STORED_S=300        # for a million messages to be stored
STORED_JOIN_S=60    # for a new node to start
STORED_TAKEOVER=1.3

# Submits until $1 messages wait, and sees them into the checkpoints.
stored_fill() {
    local waiting deadline=$((SECONDS + 60 + STORED_S * $1 / 1000000))
    while waiting=$(cluster_number waiting) || die "no node answers"; [ "$waiting" -lt "$1" ]; do
        [ "$SECONDS" -lt "$deadline" ] || die "only $waiting of $1 messages were stored in time"
        # What is too much at once is refused, and others are submitted for it.
        smsc_load --sessions 8 --window 100 --destination-prefix "$STORED_PREFIX" --size 100 \
            --count $(($1 - waiting)) >/dev/null || sleep 1
    done
    sleep "$SCALE_CHECKPOINT_S"
}

# Has a fourth node join, and leave again: sets `join`, from when it is asked to until it has everything and votes.
# Its id is used once in a cluster's life: $1.
stored_join() {
    local leader took deadline=$((SECONDS + STORED_JOIN_S))
    # shellcheck disable=SC2034,SC2154 # Read by cluster.sh; its arrays are indexed by name.
    NODE_ID[d]=$1 NODE_ROLE[d]=data NODE_RAFT[d]=127.0.0.1:7414 NODE_HTTP[d]=127.0.0.1:9414
    NODES+=(d)
    cluster_certificates
    node_config_text d | sed 's/^bootstrap = true/bootstrap = false/' >"$(node_config d)"
    start_node d
    until node_ctl d status >/dev/null 2>&1; do
        if ! node_lives d || [ "$SECONDS" -ge "$deadline" ]; then
            blame d
            exit 1
        fi
        sleep 0.1
    done
    leader=$(cluster_leader) || die "no node leads"
    scale_timed node_ctl "$leader" cluster join --id "$1" --name d --raft-addr "${NODE_RAFT[d]}"
    join=$took
    backlog_await_whole
    leader=$(cluster_leader) || die "no node leads"
    node_ctl "$leader" cluster leave "$1" >/dev/null || die "the new node could not leave"
    kill -TERM "${PIDS[d]}"
    wait "${PIDS[d]}" 2>/dev/null || true
    unset 'PIDS[d]' 'NODES[-1]'
    rm -rf -- "${CLUSTER_DIR:?}/d"
}

# Rows of what $1 messages cost; $2 is an id for a node. Sets start and takeover.
stored_measure() {
    local took rss join live disk
    stored_fill "$1"
    scale_restart
    start=$took
    backlog_await_whole
    backlog_takeovers "$RUNS"
    stored_join "$2"
    rss=$(largest_resident_mb)
    live=$(backlog_metric max smsc_store_live_bytes)
    disk=$(backlog_disk)
    row "$1 messages stored" "" "" ""
    if [ "$1" = "$STORED_FEW" ]; then
        row "  from the start until the nodes serve" "$(printf '%.2f' "$start") s" "" "the measure of those below"
        row "  kill -9 of the leader: outage" "$(printf '%.0f' "$takeover") ms" "" ""
    else
        figure "  from the start until the nodes serve" "$start" "$(awk -v v="$few_start" 'BEGIN { print v + 2 }')" at-most s
        figure "  kill -9 of the leader: outage" "$takeover" \
            "$(awk -v v="$few_takeover" -v t="$STORED_TAKEOVER" 'BEGIN { print v * t }')" at-most ms
    fi
    row "  a node joins: until it has everything and votes" "$(printf '%.1f' "$join") s" "" ""
    figure "  memory of the largest node" "$rss" 1000 at-most MB
    figure "  data directory, $((live >> 20)) MB of rows" "$((disk >> 20))" "$(((live * 3 >> 20) + 512))" at-most MB
}

bench_stored() {
    local start takeover few_start few_takeover
    bench_cluster
    heading
    leader_ctl account put stored --password secret --short-code 3000
    leader_ctl route put "$STORED_PREFIX" esme:stored
    stored_measure "$STORED_FEW" 4
    few_start=$start few_takeover=$takeover
    stored_measure $(($1 * 1000000)) 5
}
