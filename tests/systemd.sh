#!/usr/bin/env bash
# Tries the Debian package under a real systemd: in a virtual machine with a Debian of its own and no network but its own.
# As root (debootstrap). Needs cargo-deb, debootstrap, e2fsprogs and qemu-system-x86; x86-64 only. About 10 minutes without KVM.
#
# usage: tests/systemd.sh [--keep DIR] [--packages FIRST.deb SECOND.deb]
#   --keep DIR    the Debian root, the disk and the transcript stay in DIR, and the next run with the same DIR uses that root again
#   --packages    try these instead of building them; the second has the higher version
set -euo pipefail
cd "$(dirname "$0")/.."

# What the machine has before ringboot comes.
guest_packages=(systemd systemd-sysv dbus linux-image-cloud-amd64 initramfs-tools iproute2 udhcpc curl adduser procps)
# A wedged machine is ended.
limit=20m

fail() {
    echo "tests/systemd.sh: $*" >&2
    exit 1
}

keep='' first='' second=''
while [[ $# -gt 0 ]]; do
    case $1 in
    --keep) keep=$2 && shift 2 ;;
    --packages) first=$2 second=$3 && shift 3 ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit 2 ;;
    esac
done
[[ $(id -u) -eq 0 ]] || fail "only root can make a Debian root"
for tool in debootstrap mke2fs qemu-system-x86_64; do
    command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install debootstrap e2fsprogs qemu-system-x86"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kept=${keep:-$work}
mkdir -p "$kept"

if [[ -z $first ]]; then
    echo "build the packages"
    for revision in 1 2; do
        bash config/build-deb.sh "$revision"
        cp target/package/ringboot.deb "$work/$revision.deb"
    done
    first=$work/1.deb second=$work/2.deb
fi

root=$kept/root
if [[ ! -e $root.done ]]; then
    echo "make a Debian root"
    rm -rf "$root"
    debootstrap --variant=minbase --include="$(IFS=, && echo "${guest_packages[*]}")" bookworm "$root" >"$kept/debootstrap.log" ||
        fail "debootstrap: see $kept/debootstrap.log"
    touch "$root.done"
fi

install -m 644 "$first" "$root/root/first.deb"
install -m 644 "$second" "$root/root/second.deb"
install -m 755 tests/systemd/guest.sh "$root/root/guest.sh"
cat >"$root/etc/systemd/system/trial.service" <<'UNIT'
[Unit]
Description=the trial of the package
After=systemd-user-sessions.service
[Service]
ExecStart=/root/guest.sh
StandardOutput=file:/dev/ttyS1
StandardError=inherit
ExecStopPost=/bin/systemctl poweroff --no-block
UNIT
ln -sf ../trial.service "$root/etc/systemd/system/multi-user.target.wants/trial.service"
echo "trial" >"$root/etc/hostname"
rm -f "$kept/disk.img"
mke2fs -q -t ext4 -d "$root" "$kept/disk.img" 2G

echo "boot it; the console is $kept/console.log"
timeout "$limit" qemu-system-x86_64 -accel tcg -m 1024 -smp 2 -nic none -display none -no-reboot \
    -kernel "$(echo "$root"/boot/vmlinuz-*)" -initrd "$(echo "$root"/boot/initrd.img-*)" \
    -append "console=ttyS0 root=/dev/vda rw quiet" \
    -drive "file=$kept/disk.img,format=raw,if=virtio" \
    -serial "file:$kept/console.log" -serial "file:$kept/transcript" ||
    fail "the machine did not end by itself: see $kept/console.log"
tr -d '\r' <"$kept/transcript"
grep -q '^guest: 0 failed' "$kept/transcript" || fail "not everything holds, see FAILED above"
echo "tests/systemd.sh: the package, the unit and systemd agree"
