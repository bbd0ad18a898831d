# shellcheck shell=bash
# scripts/bench backlog: what a backlog of absent numbers costs the traffic beside it. Sourced by scripts/bench, whose
# figures and smsc_load it uses.

BACKLOG_PREFIX=1778      # absent until they are made to deliver
BACKLOG_TRAFFIC_S=20     # a run of fresh traffic
BACKLOG_PACED_RATE=4000  # of the run in which latency is taken
BACKLOG_TAKEOVERS=3
BACKLOG_SETTLE_S=120     # for checkpoints to follow, and for room to be given back
BACKLOG_STORE_S=400      # for a million messages to be stored
BACKLOG_DRAIN_S=1800     # for a million messages to be delivered
CHILDREN=()              # programs beside the cluster, ended with it

# The sum of a metric over all data nodes, or its largest: $1 sum or max, $2 the metric's name.
backlog_metric() {
    local node
    for node in "${NODES[@]}"; do
        exec 3<>"/dev/tcp/${NODE_HTTP[$node]%:*}/${NODE_HTTP[$node]#*:}" || continue
        printf 'GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&3
        awk -v name="$2" '$1 == name { print $2 }' <&3 | tr -d '\r'
        exec 3>&-
    done | awk -v how="$1" '{ if (how == "sum") v += $1; else if ($1 > v) v = $1 } END { print v + 0 }'
}

# Bytes on the disk of the node that takes most, everything in its data directory counted.
backlog_disk() {
    local node
    for node in "${NODES[@]}"; do du -s -B1 "$CLUSTER_DIR/$node" | cut -f1; done | sort -n | tail -n 1
}

# Waits until no more than $1 messages wait. Fails after $2 seconds.
backlog_await_waiting() {
    local deadline=$((SECONDS + $2)) waiting
    until waiting=$(cluster_number waiting) && [ "$waiting" -le "$1" ]; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 1
    done
}

# Kills the leader and measures the outage that an idle ESME sees: sets `outage`, milliseconds. Starts it again.
backlog_takeover() {
    local out leader probe deadline
    out=$(mktemp "$CLUSTER_DIR/probe.XXXXXX")
    "$BIN_DIR/smsc-load" probe --target "${FLOATING_ADDRESS%/*}:$SMPP_PORT" --outages 1 >"$out" &
    probe=$!
    CHILDREN+=("$probe")
    sleep 2
    leader=$(cluster_leader) || die "no node leads"
    kill -KILL "${PIDS[$leader]}"
    wait "${PIDS[$leader]}" 2>/dev/null || true
    deadline=$((SECONDS + 30))
    until grep -q '"event":"outage"' "$out"; do
        [ "$SECONDS" -lt "$deadline" ] || die "the probe saw no end of the outage within 30 s"
        sleep 0.1
    done
    kill -INT "$probe" 2>/dev/null || true
    wait "$probe" 2>/dev/null || true
    outage=$(number "$(grep -m1 '"event":"outage"' "$out")" outage_ms)
    rm -f -- "$out"
    start_node "$leader"
}

# Kills the leader $1 times, whole nodes each time: sets `takeover`, the median outage, milliseconds.
backlog_takeovers() {
    local run outage outages=()
    for ((run = 0; run < $1; run++)); do
        backlog_takeover
        outages+=("$outage")
        backlog_await_whole
    done
    takeover=$(median "${outages[@]}")
}

# Submits until $1 messages wait. Where attempts do not keep up, submissions are refused, and others made for them.
backlog_store() {
    local waiting=0 deadline=$((SECONDS + BACKLOG_STORE_S * $1 / 1000000))
    while [ "$waiting" -lt "$1" ]; do
        measured --sessions 8 --window 50 --destination-prefix "$BACKLOG_PREFIX" --destinations "$1" \
            --count $(($1 - waiting)) --size 100 >/dev/null
        until waiting=$(cluster_number waiting); do sleep 1; done
        [ "$SECONDS" -lt "$deadline" ] || die "only $waiting of $1 messages were stored in time"
    done
}

# Waits until the restarted node has what the leader has.
backlog_await_whole() {
    local deadline=$((SECONDS + BACKLOG_SETTLE_S)) status
    while :; do
        status=$(node_ctl w status --json 2>/dev/null | tr -d ' \n') || status=
        if is_whole "$status"; then return 0; fi
        [ "$SECONDS" -lt "$deadline" ] || die "the cluster is not whole again: $status"
        sleep 0.5
    done
}

# Starts a cluster, and measures it with $1 million messages that wait. Sets rate, p99, rss, takeover, live, disk, all and
# waiting.
backlog_measure() {
    local millions=$1 report run values=()
    CLUSTER_DIR=$(mktemp -d "${TMPDIR:-/tmp}/smsc-bench.XXXXXX")
    cluster_up
    leader_ctl settings set --retry-delays-ms "$(backlog_retry_ms "$millions")"
    leader_ctl handset put "$BACKLOG_PREFIX" absent --absent-ms 604800000
    if [ "$millions" -gt 0 ]; then
        say "storing $millions million messages for absent numbers"
        backlog_store $((millions * 1000000))
        # Every number has been tried once, and the checkpoints hold what waits.
        backlog_settled
    fi
    values=()
    for ((run = 0; run < RUNS; run++)); do
        report=$(measured --sessions 8 --window 50 --receipts --seconds "$BACKLOG_TRAFFIC_S")
        values+=("$(number "$report" receipts_per_s)")
    done
    rate=$(median "${values[@]}")
    values=()
    for ((run = 0; run < RUNS; run++)); do
        report=$(measured --sessions 8 --window 50 --receipts --rate "$BACKLOG_PACED_RATE" --seconds "$BACKLOG_TRAFFIC_S")
        values+=("$(number "$report" p99_ms receipt_latency)")
    done
    p99=$(median "${values[@]}")
    rss=$(largest_resident_mb)
    backlog_takeovers "$BACKLOG_TAKEOVERS"
    live=$(backlog_metric max smsc_store_live_bytes)
    disk=$(backlog_metric max smsc_store_file_bytes)
    all=$(backlog_disk)
    waiting=$(cluster_number waiting) || die "no node answers"
}

# Delivers the messages that wait in the cluster of $1 million, and ends it. Sets left and live_left.
backlog_deliver() {
    if [ "$1" -gt 0 ]; then
        say "delivering them, once it is time to try again"
        leader_ctl handset put "$BACKLOG_PREFIX" deliver
        backlog_await_waiting 0 $(($(backlog_retry_ms "$1") / 1000 + BACKLOG_DRAIN_S * $1)) ||
            die "the backlog was not delivered in time"
        backlog_given_back
        left=$(backlog_metric max smsc_store_file_bytes)
        live_left=$(backlog_metric max smsc_store_live_bytes)
    fi
    stop_nodes
    rm -rf -- "$CLUSTER_DIR"
    CLUSTER_DIR=
}

# With $1 million messages no number is tried again before the measuring is over; all are soon after.
backlog_retry_ms() { echo $((600000 + $1 * 300000)); }

# Attempts go on after the last submission was accepted, and checkpoints after those.
backlog_settled() {
    local deadline=$((SECONDS + BACKLOG_SETTLE_S)) before=-1 now
    while [ "$SECONDS" -lt "$deadline" ]; do
        now=$(backlog_metric sum smsc_raft_last_log_index)
        [ "$now" != "$before" ] || break
        before=$now
        sleep 5
    done
    sleep 10
}

# Waits until the files are no larger than three times what they hold, or the time for it is over.
backlog_given_back() {
    local deadline=$((SECONDS + BACKLOG_SETTLE_S))
    while [ "$SECONDS" -lt "$deadline" ]; do
        if awk -v f="$(backlog_metric max smsc_store_file_bytes)" -v l="$(backlog_metric max smsc_store_live_bytes)" \
            'BEGIN { exit !(f <= 3 * l || f < 67108864) }'; then
            return 0
        fi
        sleep 2
    done
}

# shellcheck disable=SC2317 # Called by the trap.
finish_backlog() {
    local status=$? child
    trap '' INT TERM HUP
    for child in "${CHILDREN[@]}"; do kill -KILL "$child" 2>/dev/null || true; done
    stop_nodes
    if [ -n "$CLUSTER_DIR" ]; then rm -rf -- "$CLUSTER_DIR"; fi
    exit "$status"
}

bench_backlog() {
    local millions rate p99 rss outage takeover live disk all waiting left=0 live_left=0
    local base_rate='' base_p99='' base_takeover=''
    require_tools setsid timeout awk getconf du
    build_tests "$ROOT" smsc-load
    CLUSTER_DIR=
    trap finish_backlog EXIT
    trap 'exit 130' INT TERM HUP
    # Beside a cluster of scripts/run, should there be one.
    # shellcheck disable=SC2034 # Read by cluster.sh.
    FLOATING_MODE=loopback
    FLOATING_ADDRESS=${SMSC_BENCH_ADDRESS:-127.0.0.102/32}
    SMPP_PORT=2795
    # shellcheck disable=SC2034 # Read by cluster.sh.
    CLUSTER_NAME=backlog
    # shellcheck disable=SC2034 # Read by cluster.sh.
    NODE_RAFT=([a]=127.0.0.1:7421 [b]=127.0.0.1:7422 [w]=127.0.0.1:7423)
    NODE_HTTP=([a]=127.0.0.1:9421 [b]=127.0.0.1:9422 [w]=127.0.0.1:9423)
    heading
    for millions in "$@"; do
        backlog_measure "$millions"
        row "$millions million waiting ($waiting when the leader was killed)" "" "" ""
        if [ -z "$base_rate" ]; then
            base_rate=$rate base_p99=$p99 base_takeover=$takeover
            row "  submit to receipt, as fast as it goes" "$(printf '%.0f' "$rate") /s" "" "the measure of those below"
            row "  submit to receipt at $BACKLOG_PACED_RATE/s: p99" "$(printf '%.1f' "$p99") ms" "" ""
            row "  kill -9 of the leader: outage" "$(printf '%.0f' "$takeover") ms" "" ""
        else
            figure "  submit to receipt, as fast as it goes" "$rate" "$(awk -v v="$base_rate" 'BEGIN { print v * 0.85 }')" at-least "/s"
            figure "  submit to receipt at $BACKLOG_PACED_RATE/s: p99" "$p99" "$(awk -v v="$base_p99" 'BEGIN { print v * 1.3 }')" at-most ms
            figure "  kill -9 of the leader: outage" "$takeover" "$(awk -v v="$base_takeover" 'BEGIN { print v * 1.3 }')" at-most ms
        fi
        figure "  memory of the largest node" "$rss" 1000 at-most MB
        if [ "$millions" -gt 0 ]; then
            figure "  message store on disk, $((live >> 20)) MB of rows" "$((disk >> 20))" "$((live * 3 >> 20))" at-most MB
            row "  data directory with the log" "$((all >> 20)) MB" "" ""
        fi
        backlog_deliver "$millions"
        if [ "$millions" -gt 0 ]; then
            figure "  message store on disk when all are delivered" "$((left >> 20))" \
                "$((live_left * 3 > 67108864 ? live_left * 3 >> 20 : 64))" at-most MB
        fi
    done
}
