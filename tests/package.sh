#!/usr/bin/env bash
# Builds the Debian package and installs, updates, removes and purges it on this machine, as an operator would.
# As root, on a machine without ringboot. Needs cargo-deb 3, see config/build-deb.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "tests/package.sh: $*" >&2
    exit 1
}

check() {
    local what=$1
    shift
    "$@" || fail "not true: $what"
    echo "  ok: $what"
}

refute() {
    local what=$1
    shift
    ! "$@" >/dev/null 2>&1 || fail "true, and should not be: $what"
    echo "  ok, not so: $what"
}

owner_and_mode() {
    [[ $(stat -c '%U:%G %a' "$1") == "$2" ]]
}

[[ $(id -u) -eq 0 ]] || fail "only root can install packages"
for found in /usr/bin/ringboot /etc/ringboot /var/lib/ringboot; do
    [[ ! -e $found ]] || fail "$found is there: this would destroy it"
done
! getent passwd ringboot >/dev/null || fail "the user ringboot is there: this would delete it"
echo "build"
package=$(mktemp -d)
# Whatever happens, nothing of it stays on this machine.
trap 'dpkg --purge ringboot >/dev/null 2>&1 || true; rm -rf "$package"' EXIT
chmod 755 "$package"
bash config/build-deb.sh 1
cp target/package/ringboot.deb "$package/first.deb"
bash config/build-deb.sh 2
cp target/package/ringboot.deb "$package/second.deb"
dpkg-deb --info "$package/first.deb" | sed -n 's/^ \(Package\|Version\|Architecture\|Depends\|Installed-Size\)/  \1/p'

echo "install"
apt-get -qq -y --no-install-recommends install adduser </dev/null >/dev/null
dpkg --install "$package/first.deb" >/dev/null
check "the program runs" /usr/bin/ringboot --version
check "the load test is there" /usr/bin/loadtest --version
check "the configuration is right and readable" owner_and_mode /etc/ringboot/ringboot.toml "root:root 644"
check "it is a configuration file to dpkg" grep -qx "/etc/ringboot/ringboot.toml" /var/lib/dpkg/info/ringboot.conffiles
check "the state directory is the user's alone" owner_and_mode /var/lib/ringboot "ringboot:ringboot 700"
check "the user cannot log in" bash -c '[[ $(getent passwd ringboot) == *nologin ]]'
check "the unit is there" test -e /lib/systemd/system/ringboot.service
check "the unit is right" systemd-analyze verify --man=no /lib/systemd/system/ringboot.service
refute "the unit is enabled" test -e /etc/systemd/system/multi-user.target.wants/ringboot.service
refute "anything runs as the user" pgrep -u ringboot
for page in ringboot ringboot-serve ringboot-why loadtest loadtest-limit loadtest-compare; do
    check "there is a manual of $page" test -e "/usr/share/man/man1/$page.1.gz" -o -e "/usr/share/man/man1/$page.1"
done
check "there is a manual of ringboot.toml" test -e /usr/share/man/man5/ringboot.toml.5.gz -o -e /usr/share/man/man5/ringboot.toml.5
for program in ringboot loadtest; do
    check "bash completes $program" bash -n "/usr/share/bash-completion/completions/$program"
done
check "the form of load reports is there" test -e /usr/share/doc/ringboot/docs/loadtest-report.schema.json
check "loaders for UEFI are recommended" bash -c '[[ $(dpkg-query -W -f "\${Recommends}" ringboot) == *shim-signed* ]]'

echo "a start as root becomes the user of the package"
mkdir -p "$package/root"
/usr/bin/ringboot serve --root "$package/root" --tftp 127.0.0.1:0 --http 127.0.0.1:0 >"$package/out" 2>"$package/log" &
server=$!
check "it is ready" timeout 20 sh -c "until grep -q READY '$package/out'; do sleep 0.1; done"
check "it is ringboot's" bash -c "[[ \$(ps -o user= -p $server) == ringboot ]]"
kill "$server"
wait "$server"
check "the demo boots, with a power cut and a server that is not root" \
    sh -c "/usr/bin/ringboot demo --once --clients 30 >'$package/demo' 2>&1 || { cat '$package/demo'; exit 1; }"

echo "update"
echo "# an operator's line" >>/etc/ringboot/ringboot.toml
touch /var/lib/ringboot/ringboot.db
dpkg --install "$package/second.deb" >/dev/null
check "the new version is there" bash -c '[[ $(dpkg-query -W -f "\${Version}" ringboot) == *-2 ]]'
check "the operator's configuration is kept" grep -q "an operator's line" /etc/ringboot/ringboot.toml
check "the leases are kept" test -e /var/lib/ringboot/ringboot.db
refute "anything was started" pgrep -u ringboot

echo "remove"
dpkg --remove ringboot >/dev/null
refute "the program is there" test -e /usr/bin/ringboot
refute "the load test is there" test -e /usr/bin/loadtest
check "the configuration is kept" test -e /etc/ringboot/ringboot.toml
check "the leases are kept" test -e /var/lib/ringboot/ringboot.db

echo "purge"
dpkg --purge ringboot >/dev/null
for gone in /etc/ringboot /var/lib/ringboot /lib/systemd/system/ringboot.service; do
    refute "$gone is left" test -e "$gone"
done
refute "the user is left" getent passwd ringboot
refute "the group is left" getent group ringboot
echo "tests/package.sh: the package installs, updates, removes and purges"
