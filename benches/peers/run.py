#!/usr/bin/env python3
"""Runs the servers under comparison against the same load, alternately, and writes the table and the raw figures."""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import rows
import servers

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
RESULTS = REPOSITORY / "benches" / "results"


class Lab:
    """The machine during a measurement: cores, programs, files, and the network that nobody else sees."""

    client_interface, dhcp_interface = "rbc0", "rbs0"

    def __init__(self, arguments, scratch):
        self.scratch = Path(scratch)
        self.peers = REPOSITORY / "target" / "peers"
        self.ringboot = Path(arguments.ringboot).resolve()
        self.loadtest = Path(arguments.loadtest).resolve()
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

    def run_client(self, command, bound_s):
        """Runs a load generator on the clients' core."""
        pinned = ["taskset", "-c", self.client_core] + [str(word) for word in command]
        try:
            return subprocess.run(pinned, capture_output=True, text=True, timeout=bound_s, env=self.environment)
        except subprocess.TimeoutExpired:
            raise servers.Failed(f"no end after {bound_s} s") from None

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

    def close(self):
        self.holder.terminate()
        self.holder.wait()


def network(*command):
    subprocess.run(command, check=True)


def measure(lab, row, names, runs, log):
    """Samples by server: every round visits each server once, so that the machine's moods meet all alike."""
    chosen = [server(lab) for server in servers.ALL if row.kind in server.kinds and server.name in names]
    samples = {server.name: [] for server in chosen}
    errors = {}
    for turn in range(runs):
        for server in chosen:
            if server.name in errors:
                continue
            try:
                server.start(row.kind)
                sample = row.run(lab, server)
                samples[server.name].append(sample)
                log(f"  {turn + 1}/{runs} {server.name}: {number(sample['speed'])} {row.speed_unit}, "
                    f"{number(sample['cpu'])} {row.cpu_unit}{failures(sample)}")
            except servers.Failed as why:
                errors[server.name] = str(why)
                log(f"  {server.name}: {why}")
            finally:
                server.stop()
    return {"row": row.name, "speed_unit": row.speed_unit, "cpu_unit": row.cpu_unit, "samples": samples, "errors": errors}


def failures(sample):
    failed = sample.get("machines", 0) - sample.get("booted", 0)
    return f", {failed} of {sample['machines']} failed" if failed else ""


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(values):
    """`median (least-most)`"""
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))}-{number(max(values))})"


def ratios(ours, theirs, key):
    """Of runs of the same round, so that noise that lasts longer than a round cancels out."""
    return [mine[key] / other[key] for mine, other in zip(ours, theirs) if mine.get(key) and other.get(key)]


def best_peer(samples, key="speed"):
    """The peer with the best median among those whose machines all got through; else among all."""
    peers = {name: runs for name, runs in samples.items() if name != "ringboot" and runs}
    whole = {name: runs for name, runs in peers.items() if not any(failures(run) for run in runs)}
    chosen = whole or peers
    return max(chosen, key=lambda name: statistics.median(run[key] for run in chosen[name]), default=None)


def markdown(results, facts):
    lines = ["# Side by side", "", "Each cell: median (least-most) of the runs; ratios are of runs in the same round. "
             "Servers run on one core, clients on another; every octet is checked.", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()] + [""]
    for result in results:
        lines += [f"## {result['row']}", "",
                  f"| server | {result['speed_unit']} | {result['cpu_unit']} | wall s | p50 s | failed | retries | RSS MiB |",
                  "|---|---|---|---|---|---|---|---|"]
        for name, runs in result["samples"].items():
            if not runs:
                lines.append(f"| {name} | {result['errors'].get(name, '-')[:80]} | | | | | | |")
                continue
            wall = spread([run.get("wall_s") for run in runs])
            middle = spread([run["boot"]["p50_us"] / 1e6 if run.get("boot") else None for run in runs])
            failed = max(run.get("machines", 0) - run.get("booted", 0) for run in runs)
            retries = spread([run.get("retries") for run in runs])
            memory = spread([run.get("server_rss_mib") for run in runs])
            lines.append(f"| {name} | {spread([run['speed'] for run in runs])} | {spread([run['cpu'] for run in runs])} "
                         f"| {wall} | {middle} | {failed or ''} | {retries} | {memory} |")
        peer = best_peer(result["samples"])
        ours = result["samples"].get("ringboot")
        if peer and ours:
            theirs = result["samples"][peer]
            lines += ["", f"ringboot / {peer}: speed x {spread(ratios(ours, theirs, 'speed'))}, "
                          f"processor x {spread(ratios(ours, theirs, 'cpu'))}"]
        limited = sorted({limit for runs in result["samples"].values() for run in runs for limit in run.get("limits") or []})
        lines += [""] + [f"> {limit}" for limit in limited] + [""]
    return "\n".join(lines)


def facts(lab, arguments):
    commit = subprocess.run(["git", "-C", REPOSITORY, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    packages = (lab.peers / "packages.txt").read_text().split("\n")
    named = [line for line in packages if line.split(" ")[0] in
             ("dnsmasq-base", "tftpd-hpa", "atftpd", "nginx", "lighttpd", "kea-dhcp4-server", "isc-dhcp-server")]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} x {model}, Linux {platform.release()}",
        "ringboot": commit.strip(),
        "peers": ", ".join(named) + ", tftpd (rs-tftpd) 1.0.0",
        "command": "benches/peers/run " + " ".join(arguments),
        "load before": "{:.2f} {:.2f} {:.2f}".format(*os.getloadavg()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="rounds; a median wants at least 3 [default: 3]")
    parser.add_argument("--rows", default="", help="only rows whose name contains one of these words, comma separated")
    parser.add_argument("--servers", default="", help="only these servers, comma separated")
    parser.add_argument("--server-core", default="0")
    parser.add_argument("--client-core", default="1")
    parser.add_argument("--ringboot", default=REPOSITORY / "target/release/ringboot")
    parser.add_argument("--loadtest", default=REPOSITORY / "target/release/loadtest")
    parser.add_argument("--out", default=str(RESULTS / "peers"), help="results go to OUT.md and OUT.json")
    arguments = parser.parse_args()
    words = [word for word in arguments.rows.split(",") if word]
    chosen = [row for row in rows.ROWS if not words or any(word in row.name for word in words)]
    names = [name for name in arguments.servers.split(",") if name] or [server.name for server in servers.ALL]
    log = lambda text: print(text, file=sys.stderr, flush=True)

    scratch = tempfile.mkdtemp(prefix="ringboot-peers-")
    lab = Lab(arguments, scratch)
    results = []
    try:
        lab.make_network()
        lab.make_files()
        about = facts(lab, sys.argv[1:])
        for row in chosen:
            log(row.name)
            results.append(measure(lab, row, names, arguments.runs, log))
            out = Path(arguments.out)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.with_suffix(".json").write_text(json.dumps({"facts": about, "results": results}, indent=1) + "\n")
            out.with_suffix(".md").write_text(markdown(results, about) + "\n")
    finally:
        lab.close()
        shutil.rmtree(scratch, ignore_errors=True)
    log(f"written: {arguments.out}.md and .json")


if __name__ == "__main__":
    main()
