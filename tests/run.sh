#!/usr/bin/env bash
# Installs the Debian packages that the system tests need, runs every test, and counts the pure cores' instructions.
set -euo pipefail
cd "$(dirname "$0")/.."

# Real clients, and what builds network namespaces and watches them.
client_packages=(gcc libc6-dev util-linux procps grub-common python3 iproute2 tcpdump strace curl tftp-hpa atftp busybox udhcpc isc-dhcp-client dnsmasq-base nftables iptables ethtool systemd valgrind faketime)
# Loaders that are found where these packages put them.
loader_packages=(pxelinux syslinux-common shim-signed grub-efi-amd64-signed ipxe)
# Real firmware: emulator, BIOS and UEFI, their network boot code, and an installer with its loaders.
firmware_packages=(qemu-system-x86 seabios ovmf ipxe-qemu ipxe debian-installer-12-netboot-amd64)

usage() {
    cat <<USAGE
usage: tests/run.sh [--skip-firmware] [--package] [ARGUMENT...]

Installs missing Debian packages (apt-get; as root, or through sudo), runs every test of the workspace, then counts the
instructions of the pure cores: one that became dearer than its baseline allows fails the run (docs/measuring.md).
The system tests make network namespaces: without root, their binaries are run through sudo.

  --skip-firmware   neither install QEMU nor boot virtual machines: for a laptop, never for a release
  --package         afterwards build the Debian package, install, update, remove and purge it on THIS machine
                    (tests/package.sh; needs cargo-deb: cargo install cargo-deb --version ^3)
  ARGUMENT...       for 'cargo test', in place of --workspace --no-fail-fast: '--test interop t24' runs one test, counts nothing

Packages: ${client_packages[*]} ${loader_packages[*]}
      and nginx, which is unpacked under target/peers and not installed,
      and ${firmware_packages[*]}
USAGE
}

fail() {
    echo "tests/run.sh: $*" >&2
    exit 1
}

packages=("${client_packages[@]}" "${loader_packages[@]}" "${firmware_packages[@]}")
try_package=
while [[ $# -gt 0 ]]; do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --skip-firmware)
        packages=("${client_packages[@]}" "${loader_packages[@]}")
        export RINGBOOT_SKIP_FIRMWARE=1
        echo "########  --skip-firmware: NO boot by real firmware is proved by this run  ########"
        ;;
    --package)
        try_package=yes
        command -v cargo-deb >/dev/null || fail "--package needs cargo-deb: cargo install cargo-deb --version ^3"
        ;;
    *) break ;;
    esac
    shift
done
[[ $try_package ]] || echo "tests/run.sh: the Debian package is not tried; --package does"

started=$SECONDS
trap 'status=$?; echo "tests/run.sh: $((SECONDS - started)) s in all, $(nproc) cores, exit status $status"' EXIT

command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.90 or newer (rustup.rs, or your distribution's packages)"
command -v dpkg-query >/dev/null || fail "this is no Debian: install the programs of these packages yourself, then run" \
    "'cargo test --workspace' as root: ${packages[*]}"

sudo=()
if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || fail "neither root nor sudo: the system tests cannot make network namespaces here"
    sudo=(sudo -E)
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="sudo -E"
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || status=unknown
    [[ $status == installed ]] || missing+=("$package")
done
if [[ ${#missing[@]} -gt 0 ]]; then
    echo "installing: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get -qq update || fail "apt-get update failed"
    "${sudo[@]}" apt-get -qq -y --no-install-recommends install "${missing[@]}" </dev/null ||
        fail "apt-get could not install: ${missing[*]}"
fi

# A server to compare with. Unpacked, not installed: its package would start it, now and with every boot.
peers=target/peers/root
if [[ ! -x $peers/usr/sbin/nginx && ! -x /usr/sbin/nginx ]]; then
    mkdir -p "$peers"
    archive=$(mktemp -d)
    download() { (cd "$archive" && apt-get -qq download nginx 2>/dev/null); }
    download || { "${sudo[@]}" apt-get -qq update && download; } || fail "apt-get could not download: nginx"
    dpkg-deb --extract "$archive"/nginx_*.deb "$peers"
    rm -r "$archive"
fi

count=
if [[ $# -eq 0 ]]; then
    count=yes
    set -- --workspace --no-fail-fast
fi
status=0
cargo test "$@" || status=$?
if [[ $count ]]; then
    # Needs no rights, and is told of even where a test has failed.
    env -u CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER cargo bench --quiet --profile counting --bench instructions || status=$?
fi
[[ $status -eq 0 ]] || exit "$status"
if [[ $try_package ]]; then
    "${sudo[@]}" env PATH="$PATH" bash tests/package.sh
fi
