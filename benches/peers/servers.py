"""The servers under comparison: how each is configured, started on one core, found ready and stopped."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

READY_S = 20.0  # how long a server may take until it answers
STOP_S = 10.0  # how long it may take to end after SIGTERM
POLL_S = 0.02  # between two looks at a condition

SUBNET, MASK = "10.77.0.0", "255.255.0.0"
SERVER_ADDRESS, CLIENT_ADDRESS = "10.77.0.1", "10.77.0.2"  # of the veth pair that DHCP runs over
POOL = ("10.77.1.0", "10.77.254.255")
LEASE_S = 3600
OPEN_FILES = 65536


class Failed(Exception):
    """A server that cannot be measured, and why."""


class Group:
    """A control group that accounts for the processor time of a server and all of its children."""

    def __init__(self, name):
        first = Path("/sys/fs/cgroup/cpuacct")
        self.is_v1 = first.is_dir()
        self.path = (first if self.is_v1 else Path("/sys/fs/cgroup")) / name
        self.path.mkdir(exist_ok=True)

    def join(self):
        """Called in the child before it becomes the server."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def cpu_s(self):
        if self.is_v1:
            return int((self.path / "cpuacct.usage").read_text()) / 1e9
        usage = dict(line.split() for line in (self.path / "cpu.stat").read_text().splitlines())
        return int(usage["usage_usec"]) / 1e6

    def processes(self):
        return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]

    def rss_mib(self):
        pages = 0
        for pid in self.processes():
            try:
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                pass  # it has just ended
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def remove(self):
        self.path.rmdir()


class Server:
    """One server program, or several that do one job together."""

    name = ""
    kinds = ()  # of "tftp", "joined", "http", "dhcp", "storm"

    def __init__(self, lab):
        self.lab = lab
        self.scratch = lab.scratch / self.name
        self.group = None
        self.children = []
        self.row = None

    def serves(self, row):
        return row.kind in self.kinds

    def commands(self, kind):
        """The command lines to run; they stay in the foreground. Files go into self.scratch."""
        raise NotImplementedError

    def start(self, row):
        self.row, kind = row, row.kind
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        # Some of them become other users after they have begun.
        os.chmod(self.scratch, 0o777)
        self.group = Group(f"ringboot-peers-{os.getpid()}-{self.name}")
        log = open(self.scratch / "log", "ab")
        place = self.lab.dhcp_place() if kind == "dhcp" else []
        for command in self.commands(kind):
            pinned = place + ["taskset", "-c", self.lab.server_core] + [str(word) for word in command]
            self.children.append(
                subprocess.Popen(pinned, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.scratch,
                                 env=self.lab.environment, preexec_fn=self.group.join)
            )
        log.close()
        self.wait_ready(kind)

    def wait_ready(self, kind):
        ready = {"tftp": [tftp_answers], "joined": [tftp_answers], "http": [http_answers], "storm": [tftp_answers, http_answers],
                 "dhcp": [lambda: self.lab.dhcp_port_is_bound()]}[kind]
        deadline = time.monotonic() + READY_S
        for condition in ready:
            while not condition():
                dead = [child for child in self.children if child.poll() is not None]
                if dead or time.monotonic() > deadline:
                    raise Failed(f"{self.name} is not ready for {kind}: {self.log_tail()}")
                time.sleep(POLL_S)

    def log_tail(self):
        return (self.scratch / "log").read_text(errors="replace")[-600:]

    def stop(self):
        for pid in self.group.processes() if self.group else []:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + STOP_S
        while self.group and self.group.processes():
            if time.monotonic() > deadline:
                for pid in self.group.processes():
                    os.kill(pid, signal.SIGKILL)
            for child in self.children:
                child.poll()
            time.sleep(POLL_S)
        for child in self.children:
            child.wait()
        self.children = []
        if self.group:
            self.group.remove()
            self.group = None


class Ringboot(Server):
    name = "ringboot"
    kinds = ("tftp", "joined", "http", "dhcp", "storm")

    def commands(self, kind):
        config = self.scratch / "ringboot.toml"
        lines = [f'root = "{self.lab.root}"', f'state = "{self.scratch}/state"', "[server]", 'admin-socket = ""']
        if kind == "dhcp":
            lines += [f'interfaces = ["{self.lab.dhcp_interface}"]', "[tftp]", "listen = []", "[http]", "listen = []",
                      "[[dhcp.subnet]]", f'subnet = "{SUBNET}/16"', f'interface = "{self.lab.dhcp_interface}"',
                      "relay = true", 'mode = "server"', 'clients = "any"', "allow-other-servers = true", "conflict-detection = false",
                      f'pools = ["{POOL[0]}-{POOL[1]}"]', f"default-lease-time = {LEASE_S}"]
        config.write_text("\n".join(lines) + "\n")
        (self.scratch / "state").mkdir(mode=0o700)
        serve = [self.lab.ringboot, "serve", "--config", config]
        if kind != "dhcp":
            serve += ["--no-dhcp", "--tftp", "0.0.0.0:69", "--http", "0.0.0.0:80"]
        return [serve]


class Dnsmasq(Server):
    name = "dnsmasq"
    kinds = ("tftp", "dhcp")

    def commands(self, kind):
        return [self.command(kind)]

    def command(self, kind):
        command = [self.lab.program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--port=0",
                   "--user=root", f"--pid-file={self.scratch}/pid", f"--dhcp-leasefile={self.scratch}/leases"]
        if kind == "dhcp":
            return command + [f"--interface={self.lab.dhcp_interface}", "--bind-interfaces", "--no-ping",
                              f"--dhcp-range={POOL[0]},{POOL[1]},{MASK},{LEASE_S}",
                              "--dhcp-lease-max=65000", "--quiet-dhcp", "--dhcp-sequential-ip"]
        return command + ["--enable-tftp", f"--tftp-root={self.lab.root}", "--tftp-max=5000", "--quiet-tftp"]


class TftpdHpa(Server):
    name = "tftpd-hpa"
    kinds = ("tftp",)

    def commands(self, kind):
        return [[self.lab.program("in.tftpd", "hpa"), "--foreground", "--address", "0.0.0.0:69", "--user", "root",
                 "--secure", self.lab.root]]


class Atftpd(Server):
    name = "atftpd"
    kinds = ("tftp",)

    def commands(self, kind):
        # Its own default of 100 threads refuses the other clients.
        return [[self.lab.program("atftpd"), "--daemon", "--no-fork", "--user", "root", "--group", "root",
                 "--maxthread", "2000", "--verbose=0", "--port", "69", self.lab.root]]


class RsTftpd(Server):
    name = "rs-tftpd"
    kinds = ("tftp", "joined")

    def commands(self, kind):
        return [[self.lab.peers / "bin/tftpd", "-i", "0.0.0.0", "-p", "69", "-r", "-d", self.lab.root]]


class Nginx(Server):
    name = "nginx"
    kinds = ("http",)

    def commands(self, kind):
        return [self.command()]

    def command(self):
        config = self.scratch / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {self.scratch}/nginx.pid; user root; error_log {self.scratch}/log;\n"
            f"worker_rlimit_nofile {OPEN_FILES};\n"
            "events { worker_connections 8192; }\n"
            "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n"
            f"  client_body_temp_path {self.scratch}/a; proxy_temp_path {self.scratch}/b; fastcgi_temp_path {self.scratch}/c;\n"
            f"  uwsgi_temp_path {self.scratch}/d; scgi_temp_path {self.scratch}/e;\n"
            f"  server {{ listen 0.0.0.0:80 backlog=4096; root {self.lab.root}; }} }}\n"
        )
        return [self.lab.program("nginx"), "-c", config, "-p", self.scratch, "-e", self.scratch / "log"]


class Lighttpd(Server):
    name = "lighttpd"
    kinds = ("http",)

    def commands(self, kind):
        config = self.scratch / "lighttpd.conf"
        config.write_text(
            f'server.document-root = "{self.lab.root}"\nserver.bind = "0.0.0.0"\nserver.port = 80\n'
            f"server.max-connections = 4096\nserver.max-fds = 16384\nserver.listen-backlog = 4096\n"
            "server.max-keep-alive-requests = 100000000\n"
            'server.network-backend = "sendfile"\n'
        )
        modules = self.lab.peers / "root/usr/lib/lighttpd"
        return [[self.lab.program("lighttpd"), "-D", "-f", config, "-m", modules]]


class Blast(Server):
    """No server: the kernel's own measure for windows (blast.py)."""

    name = "no protocol"
    kinds = ("joined",)

    def start(self, row):
        pass

    def stop(self):
        pass

    def sample(self):
        script = Path(__file__).with_name("blast.py")
        command = ["python3", script, self.lab.server_core, self.lab.client_core, "3"]
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
        if ended.returncode:
            raise Failed(f"blast.py: {ended.stderr[-300:]}")
        told = json.loads(ended.stdout)
        return {"speed": told["taken"] / 1e6 / told["wall_s"], "cpu": told["cpu_s"] / (told["sent"] / 1e9),
                "lost": 1 - told["taken"] / told["sent"]}


class DnsmasqNginx(Server):
    """What most people boot racks with today."""

    name = "dnsmasq+nginx"
    kinds = ("storm",)

    def commands(self, kind):
        nginx, dnsmasq = Nginx(self.lab), Dnsmasq(self.lab)
        nginx.scratch = dnsmasq.scratch = self.scratch
        return [dnsmasq.command("tftp"), nginx.command()]


class Kea(Server):
    name = "kea"
    kinds = ("dhcp",)

    def commands(self, kind):
        config = self.scratch / "kea.json"
        config.write_text(json.dumps({"Dhcp4": {
            "interfaces-config": {"interfaces": [self.lab.dhcp_interface], "dhcp-socket-type": "udp"},
            "lease-database": {"type": "memfile", "persist": True, "name": f"{self.scratch}/leases.csv"},
            "valid-lifetime": LEASE_S,
            "subnet4": [{"id": 1, "subnet": f"{SUBNET}/16", "pools": [{"pool": f"{POOL[0]} - {POOL[1]}"}]}],
            "loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": "stderr"}]}],
        }}))
        return [[self.lab.program("kea-dhcp4"), "-c", config]]


class IscDhcpd(Server):
    name = "isc-dhcpd"
    kinds = ("dhcp",)

    def commands(self, kind):
        config, leases = self.scratch / "dhcpd.conf", self.scratch / "dhcpd.leases"
        leases.touch()
        config.write_text(
            f"authoritative;\nping-check false;\ndefault-lease-time {LEASE_S};\n"
            f"subnet {SUBNET} netmask {MASK} {{ range {POOL[0]} {POOL[1]}; }}\n"
        )
        return [[self.lab.program("dhcpd"), "-4", "-f", "-q", "-cf", config, "-lf", leases, "-pf", self.scratch / "pid",
                 self.lab.dhcp_interface]]


class Floor(Server):
    """A bare responder (benches/null): what the kernel takes for this load, whoever serves it."""

    spins = False  # TFTP: looks for datagrams without a pause
    send_buffer = None  # HTTP: bytes of a connection's send buffer

    def commands(self, kind):
        return [*(self.tftp() if kind in ("tftp", "joined", "storm") else []), *(self.http() if kind in ("http", "storm") else []),
                *([self.serve("dhcp", f"{SERVER_ADDRESS}:67")] if kind == "dhcp" else [])]

    def serve(self, protocol, listen, *words):
        return [self.lab.null, "serve", protocol, "--listen", listen, *words]

    def tftp(self):
        words = ["--file", self.lab.root / self.row.file, "--window", self.row.window]
        words += ["--block-size", self.row.block_size] if self.row.block_size else []
        return [self.serve("tftp", "127.0.0.1:69", *words, *(["--spin"] if self.spins else []))]

    def http(self):
        words = ["--root", self.lab.root, "--congestion", "cubic"]
        return [self.serve("http", "127.0.0.1:80", *words, *(["--send-buffer", self.send_buffer] if self.send_buffer else []))]


class FloorSleeps(Floor):
    name = "floor: sleeps"
    kinds = ("tftp", "joined", "dhcp")


class FloorSpins(Floor):
    name = "floor: spins"
    kinds = ("tftp", "joined")
    spins = True


class FloorSendfile(Floor):
    name = "floor: sendfile"
    kinds = ("http", "storm")


class FloorBuffer(Floor):
    """Bodies wait in the kernel, as far as the buffer holds them."""

    name = "floor: 8 MiB buffer"
    kinds = ("http", "storm")
    send_buffer = 8 << 20
    smallest = 64 << 10  # a shorter body is in the kernel at once in any case

    def serves(self, row):
        return super().serves(row) and row.body_bytes > self.smallest


class FloorWholeBody(FloorBuffer):
    name = "floor: 40 MiB buffer"
    send_buffer = 40 << 20
    smallest = FloorBuffer.send_buffer


ALL = [Ringboot, Blast, FloorSleeps, FloorSpins, FloorSendfile, FloorBuffer, FloorWholeBody, Dnsmasq, TftpdHpa, Atftpd, RsTftpd, Nginx,
       Lighttpd, DnsmasqNginx, Kea, IscDhcpd]


def tftp_answers():
    """True once a read request gets any answer at all, an error included."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(0.2)
        try:
            one.sendto(struct.pack("!H", 1) + b"ready-or-not\0octet\0", ("127.0.0.1", 69))
            return bool(one.recvfrom(600))
        except OSError:
            return False


def http_answers():
    try:
        socket.create_connection(("127.0.0.1", 80), timeout=0.2).close()
        return True
    except OSError:
        return False
