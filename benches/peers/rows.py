"""What is measured: each row is one kind of load, and gives one sample from one run against one server."""

import json
import re
import subprocess

from servers import CLIENT_ADDRESS, SERVER_ADDRESS, Failed

RUN_S = 180  # bound of one run; one that takes longer has failed
DHCP_RATES = [60, 125, 250, 500, 1000, 2000, 4000, 8000, 12000, 16000, 20000, 24000]  # exchanges a second
DHCP_PERIOD_S = 3
DHCP_LOSS_MAX = 0.01
DHCP_CLIENTS = 50000

# Names and sizes of the files under the root; `loadtest files` makes them, so that every octet can be checked.
FILES = {"pxelinux.0": "42KiB", "vmlinuz": "8MiB", "initrd.img": "32MiB", "small.bin": "4KiB", "large.bin": "64MiB",
         "one.bin": "1MiB"}

MIB = 1 << 20


class Transfers:
    """Clients that fetch files as a scenario says. Unit of speed: MB/s, or requests a second."""

    more = ()  # words for loadtest

    def __init__(self, name, kind, steps, clients, duration=None, per_request=False):
        self.name, self.kind, self.steps, self.clients = name, kind, steps, clients
        self.duration, self.per_request = duration, per_request
        self.speed_unit = "requests/s" if per_request else "MB/s"
        self.cpu_unit = "us/request" if per_request else "CPU-s/GB"

    def scenario(self):
        files = "\n".join(f'"{name}" = "{size}"' for name, size in FILES.items())
        duration = f'duration = "{self.duration}s"\n' if self.duration else ""
        return (f'about = "{self.name}"\nclients = {self.clients}\n{duration}[files]\n{files}\n'
                f"[[machine]]\nsteps = [{', '.join(self.steps)}]\n")

    def run(self, lab, server):
        scenario, out = lab.scratch / "scenario.toml", lab.scratch / "report.json"
        scenario.write_text(self.scenario())
        out.unlink(missing_ok=True)
        command = [lab.loadtest, "--server", "127.0.0.1", "--no-dhcp", "--made-files", "--scenario", scenario,
                   "--json", out, "--quiet", *self.more]
        before = server.group.cpu_s()
        ended = lab.run_client(command, RUN_S)
        cpu_s = server.group.cpu_s() - before
        if not out.exists():
            raise Failed(f"loadtest gave no report: {ended.stderr[-300:]}")
        report = json.loads(out.read_text())
        summary = report["summary"]
        requests = sum(stage["count"] for stage in report["stages"].values())
        amount = requests if self.per_request else summary["bytes"] / 1e6
        per = requests / 1e6 if self.per_request else summary["bytes"] / 1e9
        return {
            "speed": amount / summary["wall_s"],
            "cpu": cpu_s / per if per else None,
            "wall_s": summary["wall_s"],
            "machines": summary["machines"],
            "booted": summary["booted"],
            "retries": summary["retries"],
            "server_cpu_s": cpu_s,
            "server_rss_mib": server.group.rss_mib(),
            "client_cpu_s": summary.get("client_cpu_s"),
            "limits": report.get("limits", []),
            "boot": report.get("boot"),
            "failures": report.get("failures", [])[:3],
        }


class Storm(Transfers):
    """The boot storm: what counts is when the last machine has everything, and when the median one has."""

    def __init__(self, name, clients):
        steps = ['{ tftp = "pxelinux.0", blksize = 1468 }', '{ http = "vmlinuz", connection = "keep" }',
                 '{ http = "initrd.img", connection = "keep" }']
        super().__init__(name, "storm", steps, clients)


class Joined(Transfers):
    """Windows to clients whose kernel joins datagrams, beside what the same kernel carries without any protocol."""

    more = ("--gro",)

    def run(self, lab, server):
        return server.sample() if hasattr(server, "sample") else super().run(lab, server)


class HighestRate:
    """The highest rate of four-way exchanges with less than 1 % lost; `at` tries one rate for a few seconds."""

    kind, speed_unit, cpu_unit = "dhcp", "leases/s", "us/lease"

    def run(self, lab, server):
        best = None
        for rate in DHCP_RATES:
            sample = self.at(lab, server, rate)
            if sample is None:
                break
            best = sample
        if best is None:
            raise Failed(f"more than 1 % lost at {DHCP_RATES[0]} exchanges a second")
        return best

    def at(self, lab, server, rate):
        """None where too much was lost."""
        raise NotImplementedError


class Perfdhcp(HighestRate):
    """By perfdhcp, which has no percentiles."""

    name = "DHCP, perfdhcp"

    def at(self, lab, server, rate):
        command = [lab.program("perfdhcp"), "-4", "-l", lab.client_interface, "-g", "single", "-r", rate,
                   "-R", DHCP_CLIENTS, "-p", DHCP_PERIOD_S, SERVER_ADDRESS]
        before = server.group.cpu_s()
        text = lab.run_client(command, RUN_S).stdout
        cpu_s = server.group.cpu_s() - before
        sent = [int(count) for count in re.findall(r"^sent packets: (\d+)", text, re.M)]
        received = [int(count) for count in re.findall(r"^received packets: (\d+)", text, re.M)]
        if len(sent) < 2 or len(received) < 2:
            raise Failed(f"perfdhcp said nothing of packets: {text[-300:]}")
        # The exchange that the end of the period cuts in two is not the server's loss.
        lost = max(sent[0] - received[1] - 1, 0) / max(sent[0], 1)
        # A generator that cannot send that fast has not shown that the server can answer that fast.
        if lost >= DHCP_LOSS_MAX or sent[0] < 0.95 * rate * DHCP_PERIOD_S:
            return None
        delays = re.findall(r"^avg delay: ([0-9.]+) ms", text, re.M)
        return {"speed": received[1] / DHCP_PERIOD_S, "rate": rate, "lost": lost, "server_cpu_s": cpu_s,
                "cpu": cpu_s / received[1] * 1e6, "avg_ms": [float(delay) for delay in delays],
                "server_rss_mib": server.group.rss_mib()}


class OwnDhcp(HighestRate):
    """By the load generator's relay agents, with percentiles."""

    name = "DHCP, loadtest"

    def at(self, lab, server, rate):
        scenario, out = lab.scratch / "scenario.toml", lab.scratch / "report.json"
        machines = rate * DHCP_PERIOD_S
        scenario.write_text(f'about = "leases"\nclients = {machines}\narrival = "poisson:{rate}/s"\n'
                            "[[machine]]\nsteps = [{ dhcp = true }]\n")
        out.unlink(missing_ok=True)
        before = server.group.cpu_s()
        lab.run_client([lab.loadtest, "--server", SERVER_ADDRESS, "--dhcp", "--relay", f"{CLIENT_ADDRESS}:67", "--yes",
                        "--scenario", scenario, "--json", out, "--quiet", "--keep-leases"], RUN_S)
        cpu_s = server.group.cpu_s() - before
        if not out.exists():
            raise Failed("loadtest gave no report")
        report = json.loads(out.read_text())
        summary, dhcp = report["summary"], report["stages"].get("dhcp")
        lost = (summary["failed"] + summary["retries"]) / machines
        if dhcp is None or lost >= DHCP_LOSS_MAX:
            return None
        return {"speed": summary["booted"] / summary["wall_s"], "rate": rate, "lost": lost, "server_cpu_s": cpu_s,
                "cpu": cpu_s / summary["booted"] * 1e6, "p99_ms": dhcp["p99_us"] / 1000,
                "server_rss_mib": server.group.rss_mib(), "limits": report.get("limits", [])}


def tftp(name, options, clients):
    # About half a gigabyte a run: enough to outlast the noise of the start, little enough for lock step.
    file, repeat = {1: ("vmlinuz", 4), 50: ("vmlinuz", 1), 500: ("one.bin", 1)}[clients]
    repeat = 1 if not options.get("windowsize") and clients == 1 else repeat
    words = "".join(f", {key} = {value}" for key, value in options.items())
    return Transfers(f"TFTP {name} x {clients}", "tftp", [f'{{ tftp = "{file}"{words}, repeat = {repeat} }}'], clients)


def http(name, step, clients, **more):
    return Transfers(f"HTTP {name}", "http", [step], clients, **more)


ROWS = [
    *[tftp(name, options, clients)
      for name, options in [("lockstep 1468", {"blksize": 1468}), ("no options", {}),
                            ("window 16", {"blksize": 1468, "windowsize": 16}),
                            ("window 64", {"blksize": 1468, "windowsize": 64})]
      for clients in (1, 50, 500)],
    Joined("TFTP window 64 x 500, joined on arrival", "joined",
           ['{ tftp = "vmlinuz", blksize = 1468, windowsize = 64 }'], 500),
    http("4 KiB keep-alive x 64", '{ http = "small.bin", connection = "keep" }', 64, duration=4, per_request=True),
    http("4 KiB, a connection each x 64", '{ http = "small.bin", connection = "close" }', 64, duration=4, per_request=True),
    http("64 MiB x 64", '{ http = "large.bin", connection = "keep" }', 64),
    http("1 MiB ranges x 64", '{ http = "large.bin", connection = "keep", range = "1MiB", repeat = 100 }', 64),
    http("8 MiB x 500", '{ http = "vmlinuz", connection = "keep" }', 500),
    Perfdhcp(),
    OwnDhcp(),
    Storm("boot storm x 500", 500),
]
