# shellcheck shell=bash
# Building, and the tools it takes. Sourced after cluster.sh, whose `say` and `die` it uses.

# GiB of disk that scripts/test may take, and what has to be free in any case.
ROOM_GIB=6
ROOM_FREE_GIB=2

# Stops with the names of all tools that are missing.
require_tools() {
    local tool missing=()
    for tool in "$@"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} -eq 0 ] || die "missing: ${missing[*]}; install them and try again"
}

# A C compiler builds the cryptography, and with make the allocator. As root on Debian they are installed; otherwise
# their absence is told.
require_compiler() {
    if command -v cc >/dev/null && command -v make >/dev/null; then return 0; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing gcc, libc6-dev and make"
        if apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev make >&2; then
            return 0
        fi
    fi
    die "a C compiler or make is missing; install the packages gcc, libc6-dev and make (as root: apt-get install gcc libc6-dev make)"
}

require_cargo() {
    command -v cargo >/dev/null || die "cargo is missing; install Rust 1.88 or newer (with rustup, or your distribution's packages)"
}

# Builds the release programs of the checkout $1 and sets BIN_DIR; with SMSC_BIN_DIR, takes those instead.
build_release() {
    if [ -n "${SMSC_BIN_DIR:-}" ]; then
        BIN_DIR=$SMSC_BIN_DIR
    else
        require_cargo
        require_compiler
        say "building (minutes the first time)"
        cargo build --quiet --release --locked --manifest-path "$1/Cargo.toml" -p smsc-node --bins >&2 || die "the build failed"
        BIN_DIR=${CARGO_TARGET_DIR:-$1/target}/release
    fi
    local program
    for program in smsc-node smscctl; do
        [ -x "$BIN_DIR/$program" ] || die "$BIN_DIR/$program is missing"
    done
    # shellcheck disable=SC2034 # Read by cluster.sh.
    BIN_DIR=$(cd "$BIN_DIR" && pwd)
}

# As build_release, with these programs of the tests, of the checkout $1.
build_tests() {
    local root=$1 program
    shift
    build_release "$root"
    for program in "$@"; do
        if [ -z "${SMSC_BIN_DIR:-}" ]; then
            cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml" -p smsc-tests --bin "$program" >&2 ||
                die "the build failed"
        fi
        [ -x "$BIN_DIR/$program" ] || die "$BIN_DIR/$program is missing"
    done
}

# Stops if the checkout $1 has too little room on its disk for a build of everything and the tests' data. What an earlier
# build has left is not made again.
require_room() {
    local free built=0 target=${CARGO_TARGET_DIR:-$1/target}
    free=$(df --output=avail -k "$1" | tail -n 1)
    if [ -d "$target/release" ]; then built=$(du -sk "$target/release/" | cut -f1) || built=0; fi
    if [ $((free >> 20)) -lt "$ROOM_FREE_GIB" ] || [ $(((free + built) >> 20)) -lt "$ROOM_GIB" ]; then
        die "$((free >> 20)) GiB are free on the disk of $1; building and testing everything takes up to $ROOM_GIB: make room"
    fi
}
