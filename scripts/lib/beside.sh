# shellcheck shell=bash
# scripts/bench etcd and scripts/bench smpp: the same payloads against something else on the same machine, then against the
# SMS centre. Sourced by scripts/bench, whose figures, cluster and smsc_load it uses.

BESIDE_RUN_S=10
BESIDE_SIZE=160
BESIDE_READY_S=30
ETCD_CLIENTS=(1 64 512 1000)
ETCD_WANTED=3.5  # times its rate at its best number of clients, at 8 sessions x window 50
BESIDE_SHAPES=("1 1" "1 50" "8 50")
ETCD_PIDS=()
ETCD_DIR=

# A row: $1 what it is; then rate, p50 and p99.
beside_row() { printf '%-46s %9.0f %9.2f %9.1f\n' "$@"; }

beside_heading() {
    heading_line
    printf '%-46s %9s %9s %9s\n' "$1" '/s' 'p50 ms' 'p99 ms'
}

# Runs a command that prints a report RUNS times, for what $1 says: sets `rate`, `p50` and `p99`, medians.
beside_runs() {
    local run report rates=() halves=() tails=()
    for ((run = 0; run < RUNS; run++)); do
        report=$(report_of "$@")
        rates+=("$(number "$report" rate_per_s)")
        halves+=("$(number "$report" p50_ms ack_latency)")
        tails+=("$(number "$report" p99_ms ack_latency)")
    done
    rate=$(median "${rates[@]}") p50=$(median "${halves[@]}") p99=$(median "${tails[@]}")
}

# The SMS centre itself, shape by shape: sets `ours`, the rate of each.
beside_own() {
    local shape what rate p50 p99
    bench_cluster
    ours=()
    for shape in "${BESIDE_SHAPES[@]}"; do
        what="this SMS centre, ${shape% *} sessions x window ${shape#* }"
        beside_runs "$what" smsc_load --sessions "${shape% *}" --window "${shape#* }" --size "$BESIDE_SIZE" \
            --seconds "$BESIDE_RUN_S"
        beside_row "$what" "$rate" "$p50" "$p99"
        ours+=("$rate")
    done
}

# shellcheck disable=SC2317 # Called by the trap.
etcd_down() {
    local pid
    for pid in "${ETCD_PIDS[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${ETCD_PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    ETCD_PIDS=()
    if [ -n "$ETCD_DIR" ]; then rm -rf -- "$ETCD_DIR"; fi
    ETCD_DIR=
}

# Three members on loopback, as they come but for the room: sets `endpoints`, options for smsc-load.
etcd_up() {
    local member peers=''
    ETCD_DIR=$(mktemp -d "${TMPDIR:-/tmp}/smsc-etcd.XXXXXX")
    trap 'etcd_down' EXIT
    trap 'exit 130' INT TERM HUP
    for member in 1 2 3; do peers+="${peers:+,}m$member=http://127.0.0.1:2438$member"; done
    endpoints=()
    for member in 1 2 3; do
        etcd --name "m$member" --data-dir "$ETCD_DIR/m$member" --log-level error --quota-backend-bytes 8589934592 \
            --listen-peer-urls "http://127.0.0.1:2438$member" --initial-advertise-peer-urls "http://127.0.0.1:2438$member" \
            --listen-client-urls "http://127.0.0.1:2437$member" --advertise-client-urls "http://127.0.0.1:2437$member" \
            --initial-cluster "$peers" --initial-cluster-token bench --initial-cluster-state new \
            >"$ETCD_DIR/m$member.log" 2>&1 </dev/null &
        ETCD_PIDS+=("$!")
        endpoints+=(--endpoint "http://127.0.0.1:2437$member")
    done
    local deadline=$((SECONDS + BESIDE_READY_S))
    until "$BIN_DIR/smsc-load" etcd "${endpoints[@]}" --clients 1 --seconds 0.1 --json >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || die "etcd does not answer: $(tail -n 5 "$ETCD_DIR"/*.log)"
        sleep 0.5
    done
}

bench_etcd() {
    local clients what rate p50 p99 best=0 endpoints ours
    command -v etcd >/dev/null || die "etcd is not installed: it is in Debian's package etcd-server, which also starts one"
    require_tools setsid timeout awk getconf
    build_tests "$ROOT" smsc-load
    etcd_up
    beside_heading "payloads of $BESIDE_SIZE octets, on three nodes' disks"
    for clients in "${ETCD_CLIENTS[@]}"; do
        what="etcd $(etcd --version | awk 'NR == 1 { print $NF }'), $clients clients"
        beside_runs "$what" "$BIN_DIR/smsc-load" etcd "${endpoints[@]}" --clients "$clients" --size "$BESIDE_SIZE" \
            --seconds "$BESIDE_RUN_S" --json
        beside_row "$what" "$rate" "$p50" "$p99"
        best=$(awk -v a="$best" -v b="$rate" 'BEGIN { print (a > b ? a : b) }')
    done
    etcd_down
    beside_own
    echo
    figure "8 sessions x window 50, times etcd at its best" "$(awk -v a="${ours[2]}" -v b="$best" 'BEGIN { print a / b }')" \
        "$ETCD_WANTED" at-least ""
}

# Another SMPP server that is running: $1 its address and port, $2 and $3 an account of it.
bench_smpp() {
    local target=$1 system_id=$2 password=$3 shape what rate p50 p99 ours other=() i
    require_tools setsid timeout awk getconf
    build_tests "$ROOT" smsc-load
    beside_heading "submits of $BESIDE_SIZE octets to $target, then here"
    for shape in "${BESIDE_SHAPES[@]}"; do
        what="$target, ${shape% *} sessions x window ${shape#* }"
        beside_runs "$what" "$BIN_DIR/smsc-load" --target "$target" --system-id "$system_id" --password "$password" --json \
            --sessions "${shape% *}" --window "${shape#* }" --size "$BESIDE_SIZE" --seconds "$BESIDE_RUN_S"
        beside_row "$what" "$rate" "$p50" "$p99"
        other+=("$rate")
    done
    beside_own
    echo
    for i in "${!BESIDE_SHAPES[@]}"; do
        row "${BESIDE_SHAPES[$i]/ / sessions x window }: times as many" \
            "$(awk -v a="${ours[$i]}" -v b="${other[$i]}" 'BEGIN { printf "%.2f", a / b }')" "" ""
    done
}
