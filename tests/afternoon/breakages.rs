//! What is broken in an afternoon: how, what must be said of it, and how it is mended.

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// `ringboot check`
    Check,
    /// `ringboot check --live` of the machine
    Live,
    /// `ringboot status`
    Status,
    /// `ringboot status --exit-code`
    Monitor,
    /// `ringboot machines`
    Machines,
    /// `ringboot why` of the machine
    Why,
    /// `ringboot reload`
    Reload,
    /// The log, from the moment of the breakage.
    Log,
    /// What the script kept of its last command.
    Kept,
}

impl Asked {
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Check => "ringboot check 2>&1",
            Self::Live => "ringboot check --live 52:54:00:12:34:10 --firmware uefi-x64 2>&1",
            Self::Status => "ringboot status 2>&1",
            Self::Monitor => "ringboot status --exit-code 2>&1; echo \"exit $?\"",
            Self::Machines => "ringboot machines 2>&1",
            Self::Why => "ringboot why $(cat /run/whom 2>/dev/null || echo 52:54:00:12:34:10) 2>&1",
            Self::Reload => "ringboot reload 2>&1; echo \"exit $?\"",
            Self::Log => "tail -c +$(cat /run/mark) /run/log",
            Self::Kept => "cat /run/kept",
        }
    }
}

/// One of them.
pub(crate) struct Breakage {
    pub what: &'static str,
    /// A shell script; prelude.sh has its functions.
    pub breaks: &'static str,
    /// Words of what is said; `not: ` in front: they are not there.
    pub says: &'static [(Asked, &'static str)],
    pub mends: &'static str,
}

use Asked::{Check, Kept, Live, Log, Machines, Monitor, Reload, Status, Why};

pub(crate) const ALL: &[Breakage] = &[
    // --- the configuration ---
    Breakage {
        what: "a key is misspelt",
        breaks: "edit 's/^routers/router/'",
        says: &[
            (Check, "ringboot.toml:9:1: unknown key `router`"),
            (Check, "did you mean `routers`?"),
            (Reload, "unknown key `router`"),
            (Reload, "exit 1"),
            (Monitor, "OK: "),
        ],
        mends: "mend",
    },
    Breakage {
        what: "two pools overlap",
        breaks: "edit 's/^pools.*/pools = [\"192.168.4.10-192.168.4.40\", \
                 \"192.168.4.30-192.168.4.50\"]/'",
        says: &[(Check, "ringboot.toml:8:"), (Check, "overlap"), (Reload, "overlap")],
        mends: "mend",
    },
    Breakage {
        what: "a machine is reserved twice",
        breaks: "edit '/^\\[boot/i [[dhcp.subnet.host]]\\nmac = \"52:54:00:12:34:10\"\\naddress = \
                 \"192.168.4.121\"\\n'",
        says: &[(Check, "52:54:00:12:34:10"), (Check, "is already reserved in line 12")],
        mends: "mend",
    },
    Breakage {
        what: "a reservation is the server's own address",
        breaks: "edit 's/192.168.4.120/192.168.4.150/'",
        says: &[(Check, "192.168.4.150")],
        mends: "mend",
    },
    Breakage {
        what: "a reservation lies in a pool",
        breaks: "edit 's/192.168.4.120/192.168.4.20/'",
        says: &[(Check, "warning:"), (Check, "192.168.4.20"), (Check, "pool")],
        mends: "mend",
    },
    Breakage {
        what: "the file is no text",
        breaks: "printf 'root = \"/srv\\377\"\\n' >$C",
        says: &[(Check, "UTF-8"), (Check, "ringboot.toml:1:"), (Reload, "UTF-8")],
        mends: "mend",
    },
    Breakage {
        what: "half of a pool is no address",
        breaks: "edit 's/192.168.4.10-/192.168.4.300-/'",
        says: &[(Check, "\"192.168.4.300\" is not an IPv4 address"), (Check, "ringboot.toml:8:")],
        mends: "mend",
    },
    Breakage {
        what: "the file is gone",
        breaks: "mv $C $C.away",
        says: &[
            (Check, "there is no /etc/ringboot/ringboot.toml"),
            (
                Reload,
                "there is no \
            /etc/ringboot/ringboot.toml",
            ),
            (Reload, "exit 1"),
            (Monitor, "OK: "),
        ],
        mends: "mend",
    },
    Breakage {
        what: "the file is a directory",
        breaks: "rm $C; mkdir $C",
        says: &[(Check, "ringboot.toml"), (Check, "directory"), (Reload, "exit 1")],
        mends: "rmdir $C; mend",
    },
    Breakage {
        what: "machines install by themselves from now on",
        breaks: "edit 's/^clients.*/&\\ninstall-by-default = true/;s/^title = \"Rack.*/&\\ndefault \
                 = \"install\"/'",
        says: &[
            (Reload, "install"),
            (Check, "warning:"),
            (Status, "INSTALLS BY DEFAULT"),
            (Log, "WARN"),
        ],
        mends: "mend",
    },
    // --- files ---
    Breakage {
        what: "the kernel of an entry is deleted",
        breaks: "mv $R/debian/linux /run/; tftp grub.cfg-01-52-54-00-12-34-10; tftp debian/linux \
                 || true",
        says: &[
            (Check, "there is no debian/linux under /srv/netboot"),
            (Live, "BROKEN at kernel of the entry `install`"),
            (Why, "debian/linux is missing"),
            (Machines, "debian/linux is missing"),
            (Log, "debian/linux"),
        ],
        mends: "mv /run/linux $R/debian/; boot; tftp debian/linux",
    },
    Breakage {
        what: "the initial disk of another entry is deleted, and the server begun again",
        breaks: "mv $R/rescue/initrd.img /run/; stop; start",
        says: &[
            (Check, "rescue/initrd.img"),
            (Status, "error"),
            (Log, "rescue/initrd.img"),
            (Live, "BROKEN at initrd of the entry `rescue`"),
        ],
        mends: "mv /run/initrd.img $R/rescue/; ringboot reload; boot",
    },
    Breakage {
        what: "a kernel is a page of a web server",
        breaks: "cp $R/debian/linux /run/; printf '<!DOCTYPE html><html>404</html>' \
                 >$R/debian/linux",
        says: &[(Check, "debian/linux"), (Check, "1 error")],
        mends: "mv /run/linux $R/debian/linux",
    },
    Breakage {
        what: "a kernel is empty",
        breaks: "cp $R/debian/linux /run/; : >$R/debian/linux",
        says: &[(Check, "debian/linux"), (Check, "empty"), (Live, "BROKEN")],
        mends: "mv /run/linux $R/debian/linux",
    },
    Breakage {
        what: "a kernel is a directory",
        breaks: "mv $R/debian/linux /run/; mkdir $R/debian/linux",
        says: &[(Check, "debian/linux"), (Check, "1 error"), (Live, "BROKEN at kernel")],
        mends: "rmdir $R/debian/linux; mv /run/linux $R/debian/linux",
    },
    Breakage {
        what: "the loader is a text",
        breaks: "echo text >$R/shimx64.efi",
        says: &[(Check, "is a text file"), (Check, "uefi-x64"), (Live, "BROKEN at loader")],
        mends: "rm $R/shimx64.efi",
    },
    Breakage {
        what: "the loader is not there",
        breaks: "edit 's/shimx64.efi/shimx65.efi/'; ringboot reload || true; boot; tftp \
                 shimx65.efi || true",
        says: &[
            (Check, "shimx65.efi"),
            (Status, "error"),
            (Live, "BROKEN at loader"),
            (Why, "shimx65.efi"),
        ],
        mends: "mend; boot; tftp shimx64.efi",
    },
    Breakage {
        what: "a template does not close what it opens",
        breaks: "cp $R/preseed.cfg.j2 /run/; printf '{%% for x in y %%}\\n{%% endfo %%}\\n' \
                 >$R/preseed.cfg.j2; get preseed.cfg",
        says: &[
            (Check, "preseed.cfg.j2"),
            (Check, "1 error"),
            (Log, "preseed.cfg.j2:2"),
            (Why, "preseed.cfg.j2:2"),
        ],
        mends: "mv /run/preseed.cfg.j2 $R/; boot; get preseed.cfg",
    },
    Breakage {
        what: "a template asks for what nobody knows",
        breaks: "cp $R/preseed.cfg.j2 /run/; echo 'x {{ ipp }}' >$R/preseed.cfg.j2; get \
                 preseed.cfg",
        says: &[
            (Log, "there is no variable `ipp`"),
            (Why, "there is no variable `ipp`"),
            (Check, "ipp"),
        ],
        mends: "mv /run/preseed.cfg.j2 $R/; boot; get preseed.cfg",
    },
    Breakage {
        what: "the answer file of an entry is gone",
        breaks: "mv $R/preseed.cfg.j2 /run/; get preseed.cfg",
        says: &[
            (Live, "BROKEN"),
            (Live, "preseed.cfg"),
            (Log, "preseed.cfg"),
            (Why, "preseed.cfg"),
        ],
        mends: "mv /run/preseed.cfg.j2 $R/; boot; get preseed.cfg",
    },
    Breakage {
        what: "nobody but root may read the kernel",
        breaks: "chmod 0600 $R/debian/linux; tftp debian/linux || true",
        says: &[(Check, "debian/linux"), (Check, "1 error"), (Live, "BROKEN"), (Why, "chmod o+r")],
        mends: "chmod 0644 $R/debian/linux; boot; tftp debian/linux",
    },
    Breakage {
        what: "a menu written by hand installs by itself",
        breaks: "mkdir $R/pxelinux.cfg; printf 'default i\\nlabel i\\n kernel debian/linux\\n \
                 append initrd=debian/initrd.gz ks=http://192.168.4.150/ks.cfg\\n' \
                 >$R/pxelinux.cfg/default",
        says: &[(Check, "pxelinux.cfg/default:4"), (Check, "INSTALLS BY ITSELF")],
        mends: "rm -r $R/pxelinux.cfg",
    },
    Breakage {
        what: "the root is moved away",
        breaks: "mkdir /srv/other; mount --move $R /srv/other 2>/dev/null || mv $R \
                 /srv/netboot.away; tftp debian/linux || true",
        says: &[
            (Check, "/srv/netboot"),
            (Check, "1 error"),
            (Reload, "/srv/netboot"),
            (Reload, "exit 1"),
        ],
        mends: "rmdir /srv/other; mv /srv/netboot.away $R; boot; tftp debian/linux",
    },
    // --- addresses ---
    Breakage {
        what: "the pool is full",
        breaks: "edit 's/^pools.*/pools = [\"192.168.4.10-192.168.4.11\"]/'; ringboot reload
            for one in 1 2; do become 52:54:00:00:00:0$one; boot; done
            become 52:54:00:00:00:03; echo 52:54:00:00:00:03 >/run/whom; TRIES=2 boot || true",
        says: &[
            (Status, "2 of 2 addresses given, FULL"),
            (Monitor, "exit 2"),
            (Check, "192.168.4.0/24"),
            (Why, "The pool is full"),
            (Machines, "The pool is full"),
            (Log, "are FULL"),
        ],
        mends: "rm -f /run/whom; mend; ringboot lease free 52:54:00:00:00:01 --force; ringboot \
                lease free 52:54:00:00:00:02 --force; become 52:54:00:12:34:10; boot",
    },
    Breakage {
        what: "all addresses of the pool are the server's and the router's",
        breaks: "edit 's/^pools.*/pools = [\"192.168.4.150-192.168.4.150\", \
                 \"192.168.4.1-192.168.4.1\"]/'; ringboot reload || true",
        says: &[(Check, "192.168.4.150"), (Check, "192.168.4.1")],
        mends: "mend",
    },
    Breakage {
        what: "only machines that boot are served, and a system asks",
        breaks: "edit 's/^clients.*/clients = \"pxe\"/'; ringboot reload; become 52:54:00:00:00:07
            echo 52:54:00:00:00:07 >/run/whom; TRIES=2 ask || true",
        says: &[(Why, "clients"), (Log, "52:54:00:00:00:07")],
        mends: "rm -f /run/whom; mend; become 52:54:00:12:34:10; boot",
    },
    Breakage {
        what: "no loader is named for this machine's architecture",
        breaks: "become 52:54:00:00:00:08; echo 52:54:00:00:00:08 >/run/whom; TRIES=2 boot 000b || \
                 true",
        says: &[(Why, "uefi-arm64"), (Machines, "52:54:00:00:00:08")],
        mends: "rm -f /run/whom; become 52:54:00:12:34:10; boot",
    },
    Breakage {
        what: "a machine is silent in the middle of its kernel",
        breaks: "machine python3 /tmp/clone/stall.py debian/linux 4",
        says: &[(Why, "debian/linux"), (Why, "block 4"), (Machines, "booting")],
        mends: "boot; tftp debian/linux",
    },
    // --- the network ---
    Breakage {
        what: "the interface's name is misspelt",
        breaks: "edit 's/^interface = .*/interface = \"eht1\"/'",
        says: &[
            (Check, "there is no interface eht1 here (there are: "),
            (
                Check,
                "did you mean \
            \"eth1\"?",
            ),
            (Check, "ringboot.toml:6:"),
        ],
        mends: "mend",
    },
    Breakage {
        what: "the interface is down",
        breaks: "ip link set eth1 down",
        says: &[
            (Status, "DOWN"),
            (Check, "eth1"),
            (Check, "down"),
            (Log, "interface eth1 is down"),
            (Monitor, "exit 2"),
        ],
        mends: "ip link set eth1 up",
    },
    Breakage {
        what: "the cable is out",
        breaks: "ip -n station link set to-eth1 down",
        says: &[(Status, "NO CARRIER"), (Check, "carrier"), (Log, "carrier")],
        mends: "ip -n station link set to-eth1 up; ip -n station addr replace 192.168.4.120/24 dev \
                to-eth1",
    },
    Breakage {
        what: "the interface has lost its address",
        breaks: "ip addr del 192.168.4.150/24 dev eth1",
        says: &[
            (Check, "no IPv4 address"),
            (
                Log,
                "interface eth1 has lost its address \
                                                   192.168.4.150",
            ),
            (Monitor, "exit 2"),
        ],
        mends: "ip addr add 192.168.4.150/24 dev eth1",
    },
    Breakage {
        what: "the interface has another network's address",
        breaks: "ip addr add 10.1.1.1/24 dev eth1; ip addr del 192.168.4.150/24 dev eth1",
        says: &[(Log, "10.1.1.1"), (Check, "10.1.1.1"), (Monitor, "exit 2")],
        mends: "ip addr add 192.168.4.150/24 dev eth1; ip addr del 10.1.1.1/24 dev eth1",
    },
    Breakage {
        what: "another DHCP server answers on the segment",
        breaks:
            "ip -n station addr flush dev to-eth1; ip -n station addr add 192.168.4.200/24 dev \
                 to-eth1
            ip netns exec station /usr/sbin/dnsmasq --port=0 --conf-file=/dev/null \
            --interface=to-eth1 --bind-interfaces --no-daemon --leasefile-ro \
                --dhcp-authoritative --dhcp-range=192.168.4.201,192.168.4.210 >/run/dnsmasq 2>&1 & \
                echo $! >/run/rogue
            timeout 20 sh -c 'until grep -q \"sockets bound\" /run/dnsmasq; do sleep 0.05; done'; \
            ringboot look",
        says: &[
            (Status, "192.168.4.200"),
            (Status, "SILENT"),
            (Monitor, "exit 2"),
            (Check, "192.168.4.200"),
            (Log, "192.168.4.200"),
        ],
        mends: "kill $(cat /run/rogue); timeout 20 tail --pid=$(cat /run/rogue) -f /dev/null; ip \
                -n station addr flush dev to-eth1; ringboot look; timeout 30 sh -c 'while ringboot \
                status | grep -q SILENT; do sleep 0.2; done'; boot",
    },
    Breakage {
        what: "a relay agent asks for a subnet that is closed to relays",
        breaks: "machine python3 /tmp/clone/relay.py 192.168.4.2; echo 52:54:00:00:00:09 \
                 >/run/whom",
        says: &[(Why, "relay = true"), (Log, "relay = true")],
        mends: "rm -f /run/whom",
    },
    Breakage {
        what: "a relay agent asks for a network that nobody configured",
        breaks: "machine python3 /tmp/clone/relay.py 10.9.9.1; echo 52:54:00:00:00:09 >/run/whom",
        says: &[(Why, "10.9.9.1"), (Log, "10.9.9.1")],
        mends: "rm -f /run/whom",
    },
    Breakage {
        what: "a firewall drops what machines ask for",
        breaks: "nft add table inet f; nft add chain inet f input '{ type filter hook input \
                 priority 0; policy drop; }'",
        says: &[(Check, "warning:"), (Check, "69")],
        mends: "nft delete table inet f",
    },
    // --- requests ---
    Breakage {
        what: "a name is asked for that nobody has",
        breaks: "get nobody-has-this.img",
        says: &[(Log, "nobody-has-this.img")],
        mends: "boot",
    },
    Breakage {
        what: "a machine wants to write",
        breaks: "echo x >/run/dump; machine busybox tftp -p -l /run/dump -r dump 192.168.4.150 || \
                 true",
        says: &[(Log, "refused to take a file")],
        mends: "boot",
    },
    Breakage {
        what: "a name leads out of the root",
        breaks: "get ../../etc/passwd; tftp ../../etc/shadow || true",
        says: &[(Log, "etc/passwd"), (Log, "etc/shadow")],
        mends: "boot",
    },
    Breakage {
        what: "a program wants to upload",
        breaks: "machine curl -s -X PUT -d x http://192.168.4.150/upload.img",
        says: &[(Log, "/upload.img")],
        mends: "boot",
    },
    // --- the state ---
    Breakage {
        what: "the disk of the state is full",
        breaks: "cat /dev/zero >/var/lib/ringboot/fill 2>/dev/null || true; become \
                 52:54:00:00:00:0a; TRIES=2 boot || true",
        says: &[
            (Check, "/var/lib/ringboot"),
            (Check, "free"),
            (Status, "STORE"),
            (Monitor, "exit 2"),
            (Log, "full"),
        ],
        mends: "rm /var/lib/ringboot/fill; become 52:54:00:12:34:10; boot",
    },
    Breakage {
        what: "the state is open to others",
        breaks: "chmod 0777 /var/lib/ringboot",
        says: &[(Check, "open to others (mode 0777)")],
        mends: "chmod 0700 /var/lib/ringboot",
    },
    Breakage {
        what: "the lease database is damaged",
        breaks: "stop; head -c 8192 /dev/urandom >/run/noise; dd if=/run/noise \
                 of=/var/lib/ringboot/ringboot.db conv=notrunc 2>/dev/null
            rm -f /var/lib/ringboot/ringboot.db-*; timeout 20 ringboot serve >/run/kept 2>&1 || \
            true",
        says: &[
            (Check, "damaged"),
            (Check, "ringboot restore"),
            (Kept, "ringboot restore"),
            (Kept, "not: Error code"),
        ],
        mends: "rm -f /var/lib/ringboot/ringboot.db*; start; boot",
    },
    Breakage {
        what: "the lease database is of a newer server",
        breaks: "stop; python3 -c 'import sqlite3; \
                 sqlite3.connect(\"/var/lib/ringboot/ringboot.db\").execute(\"pragma user_version \
                 = 99\")'
            timeout 20 ringboot serve >/run/kept 2>&1 || true",
        says: &[(Check, "newer"), (Kept, "newer")],
        mends: "rm -f /var/lib/ringboot/ringboot.db*; start; boot",
    },
    Breakage {
        what: "the state is a file",
        breaks: "sed -i 's,^root.*,&\\nstate = \"/run/state\",' $C; : >/run/state",
        says: &[(Check, "/run/state"), (Check, "1 error")],
        mends: "rm /run/state; mend",
    },
    Breakage {
        what: "a backup is restored under a running server",
        breaks: "ringboot backup /run/b.db; ringboot restore /run/b.db >/run/kept 2>&1 || true",
        says: &[(Kept, "runs")],
        mends: "rm /run/b.db",
    },
    // --- processes ---
    Breakage {
        what: "the server is started twice",
        breaks: "timeout 20 ringboot serve >/run/kept 2>&1 || echo \"exit $?\" >>/run/kept",
        says: &[(Kept, "ringboot"), (Kept, "exit")],
        mends: ":",
    },
    Breakage {
        what: "a web server has port 80",
        breaks: "stop; python3 -m http.server 80 >/dev/null 2>&1 & echo $! >/run/web
            timeout 20 sh -c 'until curl -s http://127.0.0.1:80 >/dev/null; do sleep 0.05; done'
            timeout 20 ringboot serve >/run/kept 2>&1 || true",
        says: &[(Check, "python3"), (Check, "80"), (Kept, "python3")],
        mends: "kill $(cat /run/web); timeout 20 tail --pid=$(cat /run/web) -f /dev/null; start",
    },
    Breakage {
        what: "an old tftpd has port 69",
        breaks: "stop; python3 -c 'import socket, signal; s = socket.socket(socket.AF_INET, \
                 socket.SOCK_DGRAM); s.bind((\"\", 69)); print(flush=True); signal.pause()' \
                 >/run/bound & echo $! >/run/tftpd
            timeout 20 sh -c 'until [ -s /run/bound ]; do sleep 0.05; done'; timeout 20 ringboot \
            serve >/run/kept 2>&1 || true",
        says: &[(Check, "python3"), (Check, "69"), (Kept, "python3")],
        mends: "kill $(cat /run/tftpd); timeout 20 tail --pid=$(cat /run/tftpd) -f /dev/null; \
                start",
    },
    Breakage {
        what: "a monitor sends SIGUSR1",
        breaks: "kill -USR1 $(cat /run/service); kill -USR2 $(cat /run/service)",
        says: &[(Monitor, "OK: ")],
        mends: ":",
    },
    Breakage {
        what: "no server runs",
        breaks: "stop",
        says: &[
            (Status, "no server"),
            (Monitor, "no server answers"),
            (Monitor, "exit 2"),
            (Reload, "exit 1"),
        ],
        mends: "start",
    },
    Breakage {
        what: "the first subnet is added to a server that runs without",
        breaks: "edit '/^\\[\\[dhcp/,/^$/d'; stop; start; cp /run/good.toml $C; ringboot reload \
                 >/run/kept || echo \"exit $?\" >>/run/kept",
        says: &[(Kept, "restart"), (Kept, "exit 3"), (Status, "takes effect after a restart")],
        mends: "stop; start; boot",
    },
    Breakage {
        what: "a machine is asked about where no DHCP is answered",
        breaks: "edit '/^\\[\\[dhcp/,/^$/d'; stop; start; get debian/linux; echo 192.168.4.120 \
                 >/run/whom",
        says: &[(Why, "sent by HTTP"), (Why, "not: cable")],
        mends: "rm -f /run/whom; mend || true; stop; start; boot",
    },
];
