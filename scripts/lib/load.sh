# shellcheck shell=bash
# scripts/bench load: what the SMS centre takes, and what a message costs each node. Sourced by scripts/bench, whose
# figures and smsc_load it uses.

LOAD_RUN_S=5     # a run
LOAD_SETTLE_S=60 # for what a run left to be delivered
# Sessions and window of each row.
LOAD_SHAPES=("1 1" "1 50" "8 50" "64 10" "500 2")
LOAD_SIZES=(20 160 2000)
LOAD_ABSENT_PREFIX=1779

# CPU ticks that each node has used, a line each.
load_used() {
    local node
    for node in "${NODES[@]}"; do ticks "${PIDS[$node]}"; done
}

# Bytes written to the disk under the cluster, by whomever; 0 where that is not known. A process's own count is of no
# use: it takes a folio of memory, which may be large, for written as a whole.
load_disk() {
    local device
    device=$(findmnt -no MAJ:MIN -T "$CLUSTER_DIR" 2>/dev/null | tr -d " ") || device=
    awk '{ print $7 * 512 }' "/sys/dev/block/$device/stat" 2>/dev/null || echo 0
}

# CPU ticks of the threads of node $1, a name and their sum in each line.
load_threads() {
    local task
    for task in "/proc/${PIDS[$1]}/task/"*; do
        echo "$(<"$task/comm") $(ticks "${PIDS[$1]}/task/${task##*/}")"
    done | awk '{ used[$1] += $2 } END { for (name in used) print name, used[name] }' | sort
}

load_await_idle() {
    local deadline=$((SECONDS + LOAD_SETTLE_S))
    until [ "$(cluster_number waiting)" = 0 ] || [ "$SECONDS" -ge "$deadline" ]; do sleep 0.5; done
}

# A row: $1 what it is, the rest for smsc-load. Medians of RUNS runs; for each message acknowledged, the CPU time of the
# leader and of the busiest other node, and what all nodes together wrote.
load_row() {
    local what=$1 run report before after acked leader cpu i disk rates=() p50=() p99=() receipts=() own=() other=() written=()
    shift
    leader=$(cluster_leader) || die "no node leads"
    for ((run = 0; run < RUNS; run++)); do
        mapfile -t before < <(load_used)
        disk=$(load_disk)
        report=$(measured --system-id bench --password bench --seconds "$LOAD_RUN_S" "$@")
        mapfile -t after < <(load_used)
        acked=$(number "$report" acked)
        written+=("$(awk -v b="$disk" -v a="$(load_disk)" -v n="$acked" 'BEGIN { print (a - b) / n }')")
        rates+=("$(number "$report" rate_per_s)")
        p50+=("$(number "$report" p50_ms ack_latency)")
        p99+=("$(number "$report" p99_ms ack_latency)")
        receipts+=("$(number "$report" receipts_per_s)")
        local others=()
        for i in "${!NODES[@]}"; do
            cpu=$(awk -v b="${before[$i]}" -v a="${after[$i]}" -v n="$acked" -v hz="$(getconf CLK_TCK)" \
                'BEGIN { print (a - b) * 1e6 / hz / n }')
            if [ "${NODES[$i]}" = "$leader" ]; then own+=("$cpu"); else others+=("$cpu"); fi
        done
        other+=("$(spread "${others[@]}" | awk '{ print $3 }')")
        [[ " $* " == *" --destination-prefix $LOAD_ABSENT_PREFIX "* ]] || load_await_idle
    done
    local told=-
    [[ " $* " != *" --receipts "* ]] || told=$(median "${receipts[@]}")
    printf '%-34s %9.0f %8.2f %8.1f %9s %7.0f %7.0f %9.0f\n' "$what" "$(median "${rates[@]}")" "$(median "${p50[@]}")" \
        "$(median "${p99[@]}")" "${told%.*}" "$(median "${own[@]}")" "$(median "${other[@]}")" "$(median "${written[@]}")"
}

bench_load() {
    local shape size node name used earlier begun
    bench_cluster
    heading_line
    leader_ctl account put bench --password bench --binds-max 1000
    leader_ctl handset put "$LOAD_ABSENT_PREFIX" absent --absent-ms 604800000
    leader_ctl settings set --retry-delays-ms 604800000
    printf '%-34s %9s %8s %8s %9s %15s %9s\n' '' 'submits' 'p50' 'p99' 'receipts' 'CPU us/message' 'disk B'
    printf '%-34s %9s %8s %8s %9s %7s %7s %9s\n' 'SESSIONS x WINDOW' '/s' 'ms' 'ms' '/s' 'leader' 'other' '/message'
    for shape in "${LOAD_SHAPES[@]}"; do
        load_row "${shape/ / x }" --sessions "${shape% *}" --window "${shape#* }"
    done
    for shape in "${LOAD_SHAPES[@]}"; do
        load_row "${shape/ / x }, with receipts" --sessions "${shape% *}" --window "${shape#* }" --receipts
    done
    for size in "${LOAD_SIZES[@]}"; do
        load_row "8 x 50, messages of $size octets" --sessions 8 --window 50 --size "$size"
    done
    load_row "8 x 50, all to one number" --sessions 8 --window 50 --destinations 1
    node=$(cluster_leader)
    earlier=$(load_threads "$node")
    begun=$SECONDS
    load_row "8 x 50, to numbers out of reach" --sessions 8 --window 50 --destination-prefix "$LOAD_ABSENT_PREFIX"
    printf '\nthreads of the leader in the last row, %% of a core:'
    while read -r name used; do
        awk -v name="$name" -v used="$used" -v before="$(awk -v n="$name" '$1 == n { print $2 }' <<<"$earlier")" \
            -v hz="$(getconf CLK_TCK)" -v s="$((SECONDS - begun))" \
            'BEGIN { part = (used - before) * 100 / hz / s; if (part >= 1) printf " %s %.0f", name, part }'
    done < <(load_threads "$node")
    printf '\nmemory of the largest node: %s MB, with %s messages waiting\n' "$(largest_resident_mb)" "$(cluster_number waiting || echo unknown)"
}
