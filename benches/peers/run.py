#!/usr/bin/env python3
"""Runs the servers under comparison against the same load, alternately, and writes the table and the raw figures."""

import argparse
import datetime
import json
import os
import platform
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report
import rows
import servers

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
RESULTS = REPOSITORY / "benches" / "results"
CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")  # of this network namespace
OUR_CONGESTION = "cubic"  # what ringboot sets on its own sockets ([tuning] tcp-congestion)


class Spent:
    """What one load took: processor time of the server's group, of the client's processes, and of both cores by whoever used them."""

    def __init__(self, lab, server):
        self.lab, self.server = lab, server
        self.before = self.now()

    def now(self):
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return [self.server.group.cpu_s(), children.ru_utime + children.ru_stime,
                *cores_s(Path("/proc/stat").read_text(), [self.lab.server_core, self.lab.client_core]), time.monotonic()]

    def end(self):
        spent = [after - before for before, after in zip(self.before, self.now())]
        self.server_s, self.client_s, self.both_s, self.stolen_s, self.elapsed_s = spent

    def stolen(self):
        """Which part of both cores the host gave to others."""
        return self.stolen_s / (2 * self.elapsed_s) if self.elapsed_s else None


def cores_s(stat, cores):
    """Seconds in which these cores were busy, and seconds that the host took from them (steal), out of /proc/stat."""
    busy = stolen = 0
    for line in stat.splitlines():
        name, *counts = line.split()
        if name in [f"cpu{core}" for core in cores]:
            user, nice, system, _idle, _waiting, interrupts, soft, steal = map(int, counts[:8])
            busy += user + nice + system + interrupts + soft
            stolen += steal
    return [ticks / os.sysconf("SC_CLK_TCK") for ticks in (busy, stolen)]


class Lab:
    """The machine during a measurement: cores, programs, files, and the network that nobody else sees."""

    client_interface, dhcp_interface = "rbc0", "rbs0"

    def __init__(self, arguments, scratch):
        self.scratch = Path(scratch)
        self.peers = REPOSITORY / "target" / "peers"
        self.ringboot = Path(arguments.ringboot).resolve()
        self.loadtest = Path(arguments.loadtest).resolve()
        self.null = Path(arguments.null).resolve()
        self.server_core, self.client_core = arguments.server_core, arguments.client_core
        self.root = self.scratch / "root"
        libraries = self.peers / "root/usr/lib/x86_64-linux-gnu"
        self.environment = dict(os.environ, LD_LIBRARY_PATH=f"{libraries}:{self.peers}/root/lib/x86_64-linux-gnu",
                                KEA_LOCKFILE_DIR=str(scratch), KEA_PIDFILE_DIR=str(scratch),
                                KEA_LFC_EXECUTABLE=str(self.peers / "root/usr/sbin/kea-lfc"))
        os.chmod(scratch, 0o755)

    def program(self, name, tree="root"):
        """A peer's program where install.sh has put it."""
        for folder in ("usr/sbin", "sbin", "usr/bin"):
            path = self.peers / tree / folder / name
            if path.exists():
                return path
        raise servers.Failed(f"there is no {name} under {self.peers}: run benches/peers/install.sh")

    def make_files(self):
        scenario = self.scratch / "files.toml"
        scenario.write_text(rows.Transfers("files", "http", ['{ http = "small.bin" }'], 1).scenario())
        subprocess.run([self.loadtest, "files", "--scenario", scenario, self.root], check=True)
        for path in [self.root, *self.root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)

    def run_client(self, server, command, bound_s):
        """Runs a load generator on the clients' core. Returns what it printed, and what it and the server spent."""
        pinned = ["taskset", "-c", self.client_core] + [str(word) for word in command]
        spent = Spent(self, server)
        try:
            ended = subprocess.run(pinned, capture_output=True, text=True, timeout=bound_s, env=self.environment)
        except subprocess.TimeoutExpired:
            raise servers.Failed(f"no end after {bound_s} s") from None
        spent.end()
        return ended, spent

    def make_network(self):
        """Loopback here; for DHCP a cable to a second namespace, where the server runs."""
        network("ip", "link", "set", "lo", "up")
        holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.holder = holder
        while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass
        network("ip", "link", "add", self.client_interface, "type", "veth", "peer", "name", self.dhcp_interface,
                "netns", str(holder.pid))
        network("ip", "address", "add", f"{servers.CLIENT_ADDRESS}/16", "dev", self.client_interface)
        network("ip", "link", "set", self.client_interface, "up")
        inside = self.dhcp_place()
        network(*inside, "ip", "link", "set", "lo", "up")
        network(*inside, "ip", "address", "add", f"{servers.SERVER_ADDRESS}/16", "dev", self.dhcp_interface)
        network(*inside, "ip", "link", "set", self.dhcp_interface, "up")

    def dhcp_place(self):
        return ["nsenter", "--target", str(self.holder.pid), "--net"]

    def dhcp_port_is_bound(self):
        """A socket on port 67 (hexadecimal 0043), or a packet socket, in the server's namespace."""
        udp = Path(f"/proc/{self.holder.pid}/net/udp").read_text()
        return ":0043 " in udp

    def forget_connections(self):
        """TCP keeps what it learned of each client's address; no server shall profit from the one before it."""
        network("ip", "tcp_metrics", "flush")

    def close(self):
        self.holder.terminate()
        self.holder.wait()


def network(*command):
    subprocess.run(command, check=True)


def measure(lab, row, series, names, runs, log):
    """Samples by server: every round visits each server once, so that the machine's moods meet all alike."""
    chosen = [server(lab) for server in servers.ALL if server.name in names and server(lab).serves(row)]
    samples = {server.name: [] for server in chosen}
    errors = {}
    for turn in range(runs):
        for server in chosen:
            if server.name in errors:
                continue
            try:
                lab.forget_connections()
                server.start(row)
                sample = row.run(lab, server, series)
                samples[server.name].append(sample)
                busy = sample.get("client_busy")
                log(f"  {turn + 1}/{runs} {server.name}: {report.number(sample['speed'])} {row.speed_unit}, "
                    f"{report.number(sample['cpu'])} {row.cpu_unit}" + (f", client's core {report.percent(busy)}" if busy is not None else "")
                    + (f", {report.failed(sample)} of {sample['machines']} failed" if report.failed(sample) else ""))
            except servers.Failed as why:
                errors[server.name] = str(why)
                log(f"  {server.name}: {why}")
            finally:
                server.stop()
    return {"row": row.name, "receiver": series.receiver, "congestion": series.congestion, "speed_unit": row.speed_unit,
            "cpu_unit": row.cpu_unit, "samples": samples, "errors": errors}


def series_of(row, receivers, congestions, own):
    """The series in which a row is measured. Where the system has our congestion control, it would be measured twice."""
    congestions = [name for name in congestions if name == "system" or own != OUR_CONGESTION or "system" not in congestions]
    return [rows.Series(receiver, congestion)
            for receiver in (receivers if row.has_receivers else [None])
            for congestion in (congestions if row.has_congestion else [None])]


def facts(lab):
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    packages = (lab.peers / "packages.txt").read_text().split("\n")
    named = [line for line in packages if line.split(" ")[0] in
             ("dnsmasq-base", "tftpd-hpa", "atftpd", "nginx", "lighttpd", "kea-dhcp4-server", "isc-dhcp-server")]
    return {
        "machine": f"{os.cpu_count()} x {model}, Linux {platform.release()}",
        "peers": ", ".join(named) + ", tftpd (rs-tftpd) 1.0.0",
        "congestion control": f"system = {CONGESTION.read_text().strip()}, same = {OUR_CONGESTION} for every server",
    }


def circumstances(arguments):
    """Of one invocation: the results of a file may come from several."""
    commit = subprocess.run(["git", "-C", REPOSITORY, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    load = "{:.2f} {:.2f} {:.2f}".format(*os.getloadavg())
    words = " ".join(shlex.quote(word) for word in arguments)
    return f"{datetime.date.today().isoformat()}, ringboot {commit.strip()}, load before {load}, `benches/peers/run {words}`"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="rounds; a median wants at least 3 [default: 3]")
    parser.add_argument("--rows", default="", help="only rows whose name contains one of these words, comma separated")
    parser.add_argument("--servers", default="", help="only these servers, comma separated")
    parser.add_argument("--receivers", default="verify,discard", help="what clients do with bodies, comma separated")
    parser.add_argument("--congestion", default="system,same",
                        help=f"HTTP with the system's congestion control, and with {OUR_CONGESTION} for every server, comma separated")
    parser.add_argument("--server-core", default="0")
    parser.add_argument("--client-core", default="1")
    parser.add_argument("--ringboot", default=REPOSITORY / "target/release/ringboot")
    parser.add_argument("--loadtest", default=REPOSITORY / "target/release/loadtest")
    parser.add_argument("--null", default=REPOSITORY / "target/release/examples/null")
    parser.add_argument("--out", default=str(RESULTS / "peers"),
                        help="results go to OUT.md and OUT.json; results of OUT.json that are not measured again stay")
    arguments = parser.parse_args()
    words = [word for word in arguments.rows.split(",") if word]
    chosen = [row for row in rows.ROWS if not words or any(word in row.name for word in words)]
    names = [name for name in arguments.servers.split(",") if name] or [server.name for server in servers.ALL]
    log = lambda text: print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
    out = Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(out.with_suffix(".json").read_text())["results"] if out.with_suffix(".json").exists() else []

    # Whoever ends a long measurement wants no server left behind; what is measured by then is in the files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    scratch = tempfile.mkdtemp(prefix="ringboot-peers-")
    lab = Lab(arguments, scratch)
    system, results = CONGESTION.read_text().strip(), []
    try:
        lab.make_network()
        lab.make_files()
        about, measured = facts(lab), circumstances(sys.argv[1:])
        for row in chosen:
            row.prepare(lab, log)
            for series in series_of(row, arguments.receivers.split(","), arguments.congestion.split(","), system):
                log(report.title_of({"row": row.name, "receiver": series.receiver, "congestion": series.congestion}))
                CONGESTION.write_text(OUR_CONGESTION if series.congestion == "same" else system)
                results.append(measure(lab, row, series, names, arguments.runs, log) | {"measured": measured})
                document = {"facts": about, "results": report.merge(old, results, [row.name for row in rows.ROWS])}
                out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
                out.with_suffix(".md").write_text(report.markdown(document) + "\n")
    finally:
        lab.close()
        shutil.rmtree(scratch, ignore_errors=True)
    log(f"written: {arguments.out}.md and .json")


if __name__ == "__main__":
    main()
