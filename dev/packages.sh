# SPDX-License-Identifier: Apache-2.0
# Sourced by dev/run and dev/test: installs Debian packages, and only those that are missing.

BUILD_PACKAGES="gcc libc6-dev make pkg-config libjansson-dev libseccomp-dev libutf8proc-dev
    libpcre2-dev libssl-dev zlib1g-dev libzstd-dev libcurl4 libcurl4-openssl-dev libedit2 libedit-dev
    libyaml-0-2 libyaml-dev ca-certificates"
TEST_PACKAGES="docker-registry libcmocka-dev python3-minimal libpython3-stdlib clang libclang-rt-14-dev libasan8 libubsan1 libtsan2
    procps"
# Arm's kernels, cross-compiled and emulated (dev/test arm): 56 MB to fetch, 270 MB on disk, so only for who asks.
ARM_PACKAGES="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# need PACKAGE...: as root, or through sudo; nothing at all when everything is there.
need() {
    missing=
    for package; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "$0: install these by hand, this is no Debian:$missing" >&2
        exit 1
    fi
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || { echo "$0: become root, or install sudo, to install:$missing" >&2; exit 1; }
        as_root=sudo
    fi
    echo "$0: installing$missing" >&2
    # On standard error, so that what a command prints stays its own.
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update >&2
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing >&2
}
