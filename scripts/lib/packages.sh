# shellcheck shell=bash
# What the tests need beyond Rust: Debian's packages, and clients from PyPI and npm. Sourced after cluster.sh and
# build.sh, whose `say` they use.

# tool:package; a tool may live in /usr/sbin.
TEST_TOOLS=(
    cc:gcc
    ip:iproute2
    setsid:util-linux
    awk:mawk
    shellcheck:shellcheck
    tshark:tshark
    bearerbox:kannel
    python3:python3
    node:nodejs
    npm:npm
    nft:nftables
    tc:iproute2
)

has_tool() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

# Of the tools given, each as tool:package.
packages_of() {
    local entry
    for entry in "$@"; do
        has_tool "${entry%%:*}" || echo "${entry#*:}"
    done
}

missing_packages() {
    packages_of "${TEST_TOOLS[@]}"
    has_tool cc && [ -e /usr/include/stdlib.h ] || echo libc6-dev
    perl -MNet::SMPP -e1 2>/dev/null || echo libnet-smpp-perl
    [ -e /usr/include/libsmpp34/smpp34.h ] || echo libsmpp34-dev
    # The interpreter alone makes no virtual environments on Debian.
    has_tool python3 && python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
}

# Installs what is missing of the tools given (tool:package), or of all that the tests need, as root on Debian; otherwise
# says what it is. What stays missing is skipped by the tests that need it, and each says so.
install_packages() {
    local missing
    mapfile -t missing < <(if [ $# -gt 0 ]; then packages_of "$@"; else missing_packages; fi | sort -u)
    if [ ${#missing[@]} -eq 0 ]; then return 0; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "missing: ${missing[*]}; as root on Debian this script installs them"
        return 0
    fi
    say "installing ${missing[*]}"
    if ! apt-get update -qq >&2 || ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2; then
        say "some of them could not be installed"
    fi
}

# Versions are those that were tried; smpp.twisted asks for its Twisted itself, but not for what that needs for TLS.
PYTHON_CLIENTS=(smpplib==2.2.4 smpp.twisted3==0.8 pyOpenSSL==26.4.0 service-identity==26.1.0 rusmppyc==0.4.0a2)

# Installs the clients of PyPI and npm into folder $1, where the tests look for them.
install_clients() {
    local dir=$1
    mkdir -p "$dir"
    if [ "$(cat "$dir/venv/installed" 2>/dev/null)" != "${PYTHON_CLIENTS[*]}" ]; then
        rm -rf -- "$dir/venv"
        if python3 -m venv "$dir/venv" >&2 && "$dir/venv/bin/pip" install --quiet --disable-pip-version-check "${PYTHON_CLIENTS[@]}" >&2; then
            echo "${PYTHON_CLIENTS[*]}" >"$dir/venv/installed"
        else
            rm -rf -- "$dir/venv"
            say "not all of ${PYTHON_CLIENTS[*]} could be installed from PyPI"
        fi
    fi
    if [ ! -d "$dir/node_modules/smpp" ]; then
        npm install --prefix "$dir" --silent --no-audit --no-fund smpp@0.5.1 >&2 || say "smpp could not be installed from npm"
    fi
}
