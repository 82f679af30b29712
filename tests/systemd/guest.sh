#!/usr/bin/env bash
# Runs inside the virtual machine of tests/systemd.sh, where systemd is PID 1: says what is typed, what is seen, and what holds.
# An operator's week: install, configure, start, boot a machine, reload, crash, hang, update, remove, purge.
set -uo pipefail
cd /root
export LC_ALL=C.UTF-8 SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat DEBIAN_FRONTEND=noninteractive

config=/etc/ringboot/ringboot.toml
failed=0

# typed COMMAND: runs it as an operator would, prints it, its output and its exit code; the output stays in $seen.
typed() {
    echo "# $1"
    local status=0
    seen=$(bash -c "$1" 2>&1) || status=$?
    [[ -z $seen ]] || sed 's/^/    /' <<<"$seen"
    [[ $status -eq 0 ]] || echo "    [exit $status]"
    return "$status"
}

check() {
    local what=$1
    shift
    if "$@" >/dev/null 2>&1; then
        echo "  ok: $what"
    else
        echo "  FAILED: $what"
        failed=$((failed + 1))
    fi
}

not() {
    ! "$@"
}

saw() {
    grep -qE -- "$1" <<<"$seen"
}

owner_and_mode() {
    [[ $(stat -c '%U:%G %a' "$1") == "$2" ]]
}

property() {
    systemctl show ringboot --property "$1" --value
}

# soon SECONDS COMMAND...: waits until it is true.
soon() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [[ $SECONDS -lt $until ]] || return 1
        sleep 0.5
    done
}

active_as_another() {
    [[ $(property ActiveState) == active && $(property MainPID) != "$1" ]]
}

# Words of this start's journal; waits for them, since the log is written by another thread.
journal_has() {
    soon 20 bash -c "journalctl -u ringboot --since '@$since' | grep -qE -- '$1'"
}

status_of_process() {
    grep -E "^$1" "/proc/$pid/status"
}

echo "== the machine"
typed "uname -r; systemctl --version | head -1; cat /sys/class/net/*/address | wc -l; nproc"
check "systemd is PID 1" test "$(cat /proc/1/comm)" = systemd

echo "== install: nothing starts"
typed "dpkg --install /root/first.deb"
check "dpkg is content" test $? -eq 0
typed "systemctl is-enabled ringboot; systemctl is-active ringboot"
check "disabled and inactive" test "$seen" = $'disabled\ninactive'
check "nothing runs as the user" not pgrep -u ringboot
typed "systemctl cat ringboot"
check "the unit's path is what the documentation says" saw '^# (/usr)?/lib/systemd/system/ringboot.service'
typed "systemd-analyze verify --man=no ringboot.service"
check "systemd finds nothing to complain about" test -z "$seen"
typed "systemd-analyze security ringboot --no-pager | grep -vE '^✓|^  ✓' | tail -40"
check "exposure is OK (below 3)" saw 'exposure level for ringboot.service: [0-2]\.'

echo "== as shipped: explains itself, answers no DHCP"
since=$(date +%s)
typed "ringboot check"
typed "systemctl start ringboot"
typed "journalctl -u ringboot -o cat --no-pager"
check "what is missing is named" saw '/srv/netboot'
typed "journalctl -u ringboot -p err -o cat --no-pager"
check "as an error, with the way out" saw 'mkdir -p /srv/netboot'
sleep 5
check "and it is not tried again and again" test "$(property ActiveState) $(property NRestarts)" = "failed 0"
typed "mkdir -p /srv/netboot && echo 'served as it is' >/srv/netboot/hello.txt && dd if=/dev/urandom of=/srv/netboot/big.img bs=1M count=1 status=none"
typed "systemctl start ringboot && journalctl -u ringboot -o cat -n 12"
check "with a root it starts" test "$(property ActiveState)" = active
check "no DHCP socket is open" bash -c "! ss -Hlun 'sport = :67' | grep -q ."
check "what to write for DHCP is said" journal_has 'dhcp.subnet'
typed "systemctl stop ringboot"

echo "== a sandbox in which no file could be served"
typed "mkdir -p /run/systemd/system/ringboot.service.d && printf '[Service]\nRestrictSUIDSGID=yes\nRestart=no\n' >/run/systemd/system/ringboot.service.d/trial.conf && systemctl daemon-reload; systemctl start ringboot; journalctl -u ringboot -o cat -n 6"
check "is refused at the start, with its name" saw 'a sandbox refuses openat2 .systemd: RestrictSUIDSGID=yes'
typed "rm -r /run/systemd/system/ringboot.service.d; systemctl daemon-reload; systemctl reset-failed ringboot"

echo "== a network of its own: lan0 here, a machine's eth0 in the namespace rack"
typed "ip netns add rack && ip link add lan0 type veth peer name eth0 netns rack && ip addr add 192.168.4.150/24 dev lan0 && ip link set lan0 up && ip -n rack link set eth0 up"
typed "sed -n '/^root/p;/^state/p' $config"
cp $config /root/shipped.toml
cat >>$config <<'TOML'

[[dhcp.subnet]]
subnet = "192.168.4.0/24"
interface = "lan0"
mode = "server"
pools = ["192.168.4.10-192.168.4.100"]
TOML
typed "tail -6 $config; ringboot check"
check "the check finds no error" test $? -eq 0

echo "== enable, start: active means READY"
since=$(date +%s)
typed "systemctl enable --now ringboot"
check "it starts" test $? -eq 0
check "active" test "$(property ActiveState)" = active
check "enabled" systemctl is-enabled ringboot
check "READY was in the journal by then" bash -c "journalctl -u ringboot --since '@$since' -o cat | grep -q ^READY"
typed "systemctl status ringboot --lines 30"
check "Type=notify" test "$(property Type)" = notify
check "the watchdog is on" test "$(property WatchdogUSec)" = 30s
pid=$(property MainPID)
typed "grep -E '^(Name|Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Threads|VmLck)' /proc/$pid/status"
uid=$(id -u ringboot)
check "the user is ringboot, in all four" status_of_process "Uid:[[:space:]]+$uid[[:space:]]+$uid[[:space:]]+$uid[[:space:]]+$uid"
for set in CapPrm CapEff CapBnd CapAmb; do
    check "$set is CAP_NET_BIND_SERVICE and CAP_NET_RAW" status_of_process "$set:[[:space:]]+0000000000002400"
done
check "NoNewPrivs" status_of_process "NoNewPrivs:[[:space:]]+1"
check "system calls are filtered" status_of_process "Seccomp:[[:space:]]+2"
typed "grep -E 'Max (open files|locked memory)' /proc/$pid/limits"
check "a million files may be open" saw 'open files +1048576 +1048576'

echo "== files"
typed "ls -la /var/lib/ringboot /run/ringboot"
check "the state directory is the user's alone" owner_and_mode /var/lib/ringboot "ringboot:ringboot 700"
check "so is the database" owner_and_mode /var/lib/ringboot/ringboot.db "ringboot:ringboot 600"
check "the admin socket is for the group" owner_and_mode /run/ringboot/admin.sock "ringboot:ringboot 660"
check "its directory lets the group in, and nobody else" owner_and_mode /run/ringboot "ringboot:ringboot 750"
typed "ringboot status"
check "status reaches it as root" saw 'lan0'
useradd --groups ringboot member
useradd stranger
typed "setpriv --reuid member --regid member --init-groups ringboot status | head -1"
check "a member of the group reaches it" saw "pid $pid"
typed "setpriv --reuid stranger --regid stranger --init-groups ringboot status"
check "a stranger does not" test $? -ne 0

echo "== a machine boots"
cat >/root/udhcpc.sh <<'SCRIPT'
#!/bin/sh
# Takes what was leased.
[ "$1" = bound ] || exit 0
ip addr replace "$ip/$mask" dev "$interface"
echo "bound: $ip/$mask server $siaddr lease $lease boot file ${boot_file-none}"
SCRIPT
chmod 755 /root/udhcpc.sh
check "the look for other servers is over" journal_has 'lan0.*(alone|no other|answers)|no other.*lan0'
udhcpc='ip netns exec rack udhcpc -i eth0 -f -n -q -t 10 -T 1 -s /root/udhcpc.sh'
typed "$udhcpc -V PXEClient:Arch:00000:UNDI:002001 -x 0x5d:0000"
check "a PXE machine gets an address" saw 'bound: 192\.168\.4\.[0-9]+/24 server 192\.168\.4\.150'
address=$(grep -oE 'bound: [0-9.]+' <<<"$seen" | cut -d' ' -f2)
typed "ip netns exec rack curl -sS tftp://192.168.4.150/hello.txt"
check "TFTP" saw 'served as it is'
typed "ip netns exec rack curl -sS http://192.168.4.150/hello.txt"
check "HTTP" saw 'served as it is'
typed "ip netns exec rack curl -sS -o /root/got.img http://192.168.4.150/big.img && cmp /root/got.img /srv/netboot/big.img && echo the same"
check "a mapped file by HTTP" saw 'the same'
typed "ip netns exec rack curl -sS -o /root/got.img tftp://192.168.4.150/big.img && cmp /root/got.img /srv/netboot/big.img && echo the same"
check "a mapped file by TFTP" saw 'the same'
typed "ringboot why $address"
check "the journal of that machine is there" saw "$address"

echo "== the journal's fields"
typed "journalctl -u ringboot -o json --output-fields=PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_UID,_TRANSPORT,MESSAGE -n 2"
check "the unit" saw '"_SYSTEMD_UNIT":"ringboot.service"'
check "the identifier" saw '"SYSLOG_IDENTIFIER":"ringboot"'
typed "journalctl -u ringboot -p warning -o cat"
check "a warning has its priority, an information has not" not saw 'READY'

echo "== reload: a right configuration, then a wrong one"
typed "sed -i 's/^pools = .*/pools = [\"192.168.4.10-192.168.4.120\"]/' $config; systemctl reload ringboot"
check "a right one is taken over" test $? -eq 0
typed "ringboot status | head -1"
check "generation 2" saw 'generation 2'
cp $config /root/right.toml
since=$(date +%s)
typed "sed -i 's/^mode = \"server\"/mode = \"sever\"/' $config; systemctl reload ringboot"
check "a wrong one makes systemctl fail" test $? -ne 0
typed "journalctl -u ringboot --since @$since -o cat"
check "the journal has the line that is wrong" saw "ringboot.toml:[0-9]+:[0-9]+"
typed "ringboot reload"
check "so does ringboot reload" test $? -eq 1
check "it names the line" saw 'ringboot.toml:[0-9]+:[0-9]+'
typed "kill -HUP $pid; sleep 2; systemctl is-active ringboot; ringboot status | head -1"
check "the old one stays, also after SIGHUP" saw 'generation 2'
check "it is the same process" test "$(property MainPID)" = "$pid"
cp /root/right.toml $config

echo "== killed"
typed "kill -9 $pid"
check "it is started again" soon 60 active_as_another "$pid"
typed "systemctl show ringboot -p MainPID -p NRestarts -p Result -p ActiveState"
check "and has counted it" test "$(property NRestarts)" = 1
typed "$udhcpc -V PXEClient:Arch:00000:UNDI:002001 -x 0x5d:0000"
check "the machine keeps its address" saw "bound: $address/"
pid=$(property MainPID)

echo "== hung: the watchdog"
since=$(date +%s)
typed "kill -STOP $pid"
check "it is ended and started again within twice WatchdogSec" soon 70 active_as_another "$pid"
typed "echo after \$((\$(date +%s) - $since)) s; journalctl -u ringboot --since @$since -o cat _PID=1"
check "by the watchdog" saw 'Watchdog timeout'
pid=$(property MainPID)

echo "== an interface that comes later"
since=$(date +%s)
typed "systemctl stop ringboot; ip link del lan0; systemctl start ringboot && systemctl is-active ringboot"
check "it starts without the interface" saw active
typed "journalctl -u ringboot --since @$since -o cat | grep lan0"
check "and says that it waits" saw 'lan0'
ip link add lan0 type veth peer name eth0 netns rack && ip addr add 192.168.4.150/24 dev lan0 && ip link set lan0 up && ip -n rack link set eth0 up
typed "$udhcpc -t 30 -V PXEClient:Arch:00000:UNDI:002001 -x 0x5d:0000"
check "it is picked up under the unit's rights" saw 'bound: 192'

echo "== syslog"
cp $config /root/right.toml
since=$(date +%s)
typed "sed -i 's/^#facility = .*/facility = \"local7\"/' $config && systemctl restart ringboot && sleep 1 && journalctl --since @$since -t ringboot _TRANSPORT=syslog -o json --output-fields=SYSLOG_FACILITY,PRIORITY,SYSLOG_IDENTIFIER,MESSAGE | tail -2"
check "lines come by /dev/log with facility 23" saw '"SYSLOG_FACILITY":"23"'
cp /root/right.toml $config
systemctl restart ringboot

echo "== backup by root beside the running server, and with it stopped"
typed "ringboot backup /root/running.db && ls -l /root/running.db"
check "0600" owner_and_mode /root/running.db "root:root 600"
typed "systemctl stop ringboot && ringboot why $address >/dev/null; ringboot backup /root/stopped.db && ringboot restore /root/stopped.db; ls -ln /var/lib/ringboot"
check "root has left nothing behind that the service cannot open" test -z "$(find /var/lib/ringboot ! -user ringboot)"
typed "systemctl start ringboot && systemctl is-active ringboot"
check "it starts" saw '^active'

echo "== update"
pid=$(property MainPID)
sum=$(sha256sum <$config)
typed "dpkg --install /root/second.deb"
check "no question about the configuration, no error" test $? -eq 0
typed "dpkg-query -W ringboot; systemctl is-enabled ringboot; systemctl is-active ringboot"
check "the new version, enabled and active as before" saw $'^active'
check "it was restarted into the new version" active_as_another "$pid"
check "the operator's configuration is kept" test "$(sha256sum <$config)" = "$sum"
typed "$udhcpc -V PXEClient:Arch:00000:UNDI:002001 -x 0x5d:0000"
check "the leases are kept" saw "bound: 192"
typed "systemctl disable --now ringboot; dpkg --install /root/first.deb /root/second.deb >/dev/null 2>&1; systemctl is-enabled ringboot; systemctl is-active ringboot"
check "where it does not run, an update leaves it so" test "$(tail -2 <<<"$seen")" = $'disabled\ninactive'
systemctl enable --quiet --now ringboot

echo "== remove"
typed "dpkg --remove ringboot"
check "dpkg is content" test $? -eq 0
check "it is stopped" not pgrep -u ringboot
check "nothing enables it" not test -e /etc/systemd/system/multi-user.target.wants/ringboot.service
check "the configuration is kept" test -e $config
check "the leases are kept" test -e /var/lib/ringboot/ringboot.db
typed "systemctl status ringboot"
check "systemd has forgotten the unit" saw 'could not be found|not-found'

echo "== purge"
typed "dpkg --purge ringboot"
check "dpkg is content" test $? -eq 0
typed "ls -d /etc/ringboot /var/lib/ringboot /run/ringboot /lib/systemd/system/ringboot.service; getent passwd ringboot; getent group ringboot"
check "nothing is left" bash -c '! getent passwd ringboot && ! getent group ringboot && ! ls -d /etc/ringboot /var/lib/ringboot /run/ringboot /lib/systemd/system/ringboot.service'
check "the tree that is served is left" test -e /srv/netboot/hello.txt

echo "guest: $failed failed"
