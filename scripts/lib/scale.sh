# shellcheck shell=bash
# scripts/bench scale: what bound sessions, accounts and the life of a message cost. Sourced by scripts/bench, whose figures
# and smsc_load it uses, after backlog.sh, whose takeover it measures.

SCALE_SESSIONS=(1000 1000) # of two accounts: one may have no more, a node no more than their sum
SCALE_HELD_S=15            # for which they are bound
SCALE_READ_AFTER_S=10      # when memory is read
SCALE_LIST_S=1             # to list all accounts
SCALE_LIVES=100000         # messages in a run
SCALE_CHECKPOINT_S=12      # after which checkpoints hold what was stored

# Writes accounts $1 to $2, each with a short code, as a file for smscctl apply.
scale_accounts() {
    awk -v from="$1" -v to="$2" 'BEGIN {
        for (i = from; i <= to; i++)
            printf "[[accounts]]\nsystem_id = \"scale%d\"\npassword = \"secret\"\nshort_codes = [\"8%07d\"]\n", i, i
    }'
}

# Runs a command that is to succeed, and sets `took`, seconds.
scale_timed() {
    local began
    began=$(date +%s%N)
    "$@" >/dev/null || die "$* failed"
    took=$(awk -v a="$began" -v b="$(date +%s%N)" 'BEGIN { print (b - a) / 1e9 }')
}

scale_sessions() {
    local leader before after load names=() loads=() i bound
    leader=$(cluster_leader) || die "no node leads"
    for i in "${!SCALE_SESSIONS[@]}"; do
        names+=("many$i")
        leader_ctl account put "many$i" --password bench --binds-max "${SCALE_SESSIONS[$i]}" --window 10
    done
    before=$(resident_mb "${PIDS[$leader]}")
    for i in "${!names[@]}"; do
        smsc_load --system-id "${names[$i]}" --password bench --sessions "${SCALE_SESSIONS[$i]}" --window 2 \
            --rate 100 --seconds "$SCALE_HELD_S" --connect-timeout-ms 5000 --strict >"$CLUSTER_DIR/load$i" &
        loads+=("$!")
    done
    CHILDREN+=("${loads[@]}")
    sleep "$SCALE_READ_AFTER_S"
    bound=$(cluster_number sessions) || die "no node answers"
    after=$(resident_mb "${PIDS[$leader]}")
    for load in "${loads[@]}"; do wait "$load" || die "smsc-load: $(cat "$CLUSTER_DIR"/load?)"; done
    figure "bound sessions" "$bound" $((SCALE_SESSIONS[0] + SCALE_SESSIONS[1])) at-least ""
    figure "  memory of the leader" "$after" 200 at-most MB
    figure "  for each session" "$(awk -v a="$before" -v b="$after" -v n="$bound" 'BEGIN { print (b - a) * 1024 / n }')" 32 at-most kB
}

scale_put_accounts() {
    local count=$1 leader first
    leader=$(cluster_leader) || die "no node leads"
    scale_accounts 1 $((count / 2)) >"$CLUSTER_DIR/first.toml"
    scale_accounts $((count / 2 + 1)) "$count" >"$CLUSTER_DIR/second.toml"
    scale_timed node_ctl "$leader" apply "$CLUSTER_DIR/first.toml"
    first=$took
    row "accounts: $((count / 2)) put by smscctl apply" "$(awk -v v="$first" 'BEGIN { printf "%.1f", v }') s" "" ""
    scale_timed node_ctl "$leader" apply "$CLUSTER_DIR/second.toml"
    # Three times as long if each cost as much as there are.
    figure "  $((count - count / 2)) more" "$took" "$(awk -v v="$first" 'BEGIN { print v * 2 }')" at-most s
    scale_timed node_ctl "$leader" account list
    figure "  smscctl account list" "$took" "$SCALE_LIST_S" at-most s
}

scale_start() {
    local node
    for node in "${NODES[@]}"; do start_node "$node"; done
    await_ready
}

# Octets that the leader has sent to another data node or witness, the one that was sent most: of the connections that are
# open. 0 where that is not known.
scale_sent() {
    local leader node ports=()
    leader=$(cluster_leader) || die "no node leads"
    for node in "${NODES[@]}"; do
        if [ "$node" != "$leader" ]; then ports+=("${NODE_RAFT[$node]}"); fi
    done
    { ss -tinHO 2>/dev/null || true; } | awk -v ports="${ports[*]}" '
        BEGIN { split(ports, names, " "); for (i in names) other[names[i]] = 1 }
        $5 in other && match($0, /bytes_sent:[0-9]+/) { sent[$5] += substr($0, RSTART + 11, RLENGTH - 11) }
        END { for (name in sent) if (sent[name] > most) most = sent[name]; print most + 0 }'
}

# A row: what a message of $1 octets leaves behind at its end, and what the leader sends each other node of it; the rest
# for smsc-load.
scale_life() {
    local size=$1 what=$2 sent live
    shift 2
    sent=$(scale_sent)
    live=$(backlog_metric max smsc_store_live_bytes)
    measured --sessions 8 --window 50 --count "$SCALE_LIVES" --size "$size" "$@" >/dev/null
    backlog_await_waiting 0 60 || die "not all were delivered"
    sleep "$SCALE_CHECKPOINT_S"
    awk -v s="$sent" -v S="$(scale_sent)" -v l="$live" -v L="$(backlog_metric max smsc_store_live_bytes)" \
        -v n="$SCALE_LIVES" 'BEGIN { printf "%.0f %.0f\n", (S - s) / n, (L - l) / n }' | {
        read -r sent live
        row "a message of $size octets$what: to each other node" "$sent B" "" ""
        row "  kept when it is final: rows of the store" "$live B" "" ""
    }
}

# Stops all nodes and starts them again: sets `took`, from the start until they serve, and `rss`, the largest node's memory.
scale_restart() {
    stop_nodes
    scale_timed scale_start
    rss=$(largest_resident_mb)
}

bench_scale() {
    local accounts=$1 took rss takeover run report values=() fresh fresh_rss size
    bench_cluster
    heading
    scale_restart
    fresh=$took fresh_rss=$rss
    row "nothing stored: from the start until the nodes serve" "$(awk -v v="$fresh" 'BEGIN { printf "%.2f", v }') s" "" ""
    row "  memory of the largest node" "$fresh_rss MB" "" ""
    scale_sessions
    scale_put_accounts "$accounts"
    scale_restart
    figure "  from the start until the nodes serve" "$took" "$(awk -v v="$fresh" 'BEGIN { print v + 1 }')" at-most s
    figure "  memory of the largest node" "$rss" 200 at-most MB
    row "    for each account" "$(awk -v a="$fresh_rss" -v b="$rss" -v n="$accounts" 'BEGIN { printf "%.2f", (b - a) * 1024 / n }') kB" "" ""
    backlog_await_whole
    backlog_takeovers "$RUNS"
    row "  kill -9 of the leader: outage" "$(printf '%.0f' "$takeover") ms" "" ""
    for ((run = 0; run < RUNS; run++)); do
        report=$(measured --sessions 8 --window 50 --seconds "$SUBMIT_S")
        values+=("$(number "$report" rate_per_s)")
    done
    row "  acknowledged submits, 8 sessions, window 50" "$(printf '%.0f' "$(median "${values[@]}")") /s" "" ""
    backlog_await_waiting 0 60 || die "not all were delivered"
    sleep "$SCALE_CHECKPOINT_S"
    for size in 20 160; do
        scale_life "$size" ""
        scale_life "$size" ", with receipt" --receipts
    done
}
