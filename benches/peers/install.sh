#!/usr/bin/env bash
# Puts the servers to compare with under target/peers: Debian's packages unpacked, not installed, and one crate built.
set -euo pipefail
cd "$(dirname "$0")/../.."
peers=$PWD/target/peers
mkdir -p "$peers/archives/partial" "$peers/root"

packages=(dnsmasq-base tftpd-hpa atftpd nginx-light lighttpd kea-dhcp4-server kea-admin isc-dhcp-server)
rs_tftpd=1.0.0

export DEBIAN_FRONTEND=noninteractive
if [[ ! -e $peers/packages.txt ]]; then
    apt-get -qq update
    # One by one, for two of them may not be installed together. --reinstall downloads what this machine has already.
    for package in "${packages[@]}"; do
        apt-get -qq -y --no-install-recommends --download-only --reinstall \
            -o Dir::Cache::archives="$peers/archives" install "$package"
    done
    for archive in "$peers"/archives/*.deb; do
        case $archive in
        */tftpd-hpa_*) into=$peers/hpa ;; # brings in.tftpd, and so does atftpd
        *) into=$peers/root ;;
        esac
        mkdir -p "$into"
        dpkg-deb --extract "$archive" "$into"
    done
    for archive in "$peers"/archives/*.deb; do
        dpkg-deb --show --showformat '${Package} ${Version}\n' "$archive"
    done >"$peers/packages.txt"
fi
if [[ ! -x $peers/bin/tftpd ]]; then
    cargo install --quiet --root "$peers" --target-dir "$peers/build" --version "$rs_tftpd" tftpd
fi
echo "peers: $(grep -cE . "$peers/packages.txt") packages and tftpd $rs_tftpd under $peers"
