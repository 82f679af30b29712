# What an operator has at hand on the host of tests/afternoon: the server, its configuration, and one machine on the segment.

C=/etc/ringboot/ringboot.toml
R=/srv/netboot

start() {
    : >/run/ready
    ringboot serve >>/run/log 2>&1 &
    echo $! >/run/service
    timeout 30 sh -c 'until grep -q READY /run/ready; do sleep 0.02; done'
    timeout 30 sh -c 'while ringboot status 2>/dev/null | grep -q "looking for other DHCP servers"; do sleep 0.1; done'
}
stop() {
    local pid
    read -r pid </run/service
    kill "$pid"
    timeout 40 tail --pid="$pid" -f /dev/null
}
# Waits for words in what the log got since the breakage began.
logged() { timeout 30 sh -c 'until tail -c +"$0" /run/log | grep -qF "$1"; do sleep 0.05; done' "$(cat /run/mark)" "$1"; }
# A line of the configuration becomes another one, or several.
edit() { sed -i "$1" $C; }
# The configuration as it was, in force.
mend() { cp /run/good.toml $C; ringboot reload; }

machine() { ip netns exec station "$@"; }
# A DHCP exchange as UEFI firmware has it; the machine keeps the address. `lease`: as a system; `lease 11`: another architecture.
boot() { ask -V PXEClient:Arch:00007:UNDI:003016 -x "0x5d:${1-0007}" -x 0x5e:01030a -x 0x61:0011223344556677889900112233445566; }
ask() { machine busybox udhcpc -i to-eth1 -s /run/lease -n -q -f -t "${TRIES-4}" -T 1 -O 66 -O 67 "$@" 2>&1; }
# Another machine in the same place.
become() { ip -n station link set to-eth1 down address "$1"; ip -n station addr flush dev to-eth1; ip -n station link set to-eth1 up; }
get() { machine curl -s -o /dev/null -w '%{http_code}\n' --path-as-is "http://192.168.4.150/$1"; }
tftp() { machine busybox tftp -g -l /run/got -r "$1" 192.168.4.150 2>&1; }
