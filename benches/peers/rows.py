"""What is measured: each row is one kind of load, and gives one sample from one run against one server."""

import json
import re
from typing import NamedTuple

from servers import CLIENT_ADDRESS, SERVER_ADDRESS, Failed, Kea

RUN_S = 180  # bound of one run; one that takes longer has failed
DHCP_RATES = [60, 125, 250, 500, 1000, 2000, 4000, 6000, 8000, 10000, 12000, 14000, 16000, 18000, 20000]  # exchanges a second
DHCP_RATE_FIRST = 2000  # where the search for the highest rate begins
DHCP_RATE_FIXED = 10000
DHCP_RATE_WARM_UP = 125  # before the first rate that counts: a server that has just begun loses some
DHCP_PERIOD_S = 3
DHCP_RUN_S = 15  # bound of one rate: a server that still has machines waiting then cannot serve it
DHCP_LOSS_MAX = 0.01
DHCP_CLIENTS = 50000

MIB = 1 << 20

# Names and sizes of the files under the root; `loadtest files` makes them, so that every byte can be checked.
FILES = {"pxelinux.0": 42 << 10, "vmlinuz": 8 * MIB, "initrd.img": 32 * MIB, "small.bin": 4 << 10, "large.bin": 64 * MIB, "one.bin": MIB}

# What a receiver verifies: with the length alone, the kernel discards HTTP bodies, and TFTP blocks are compared with nothing.
RECEIVERS = {"verify": "full", "discard": "length"}


class Series(NamedTuple):
    """What a row is measured with; None where it makes no difference."""

    receiver: str | None  # a key of RECEIVERS
    congestion: str | None  # "system", or "same" as ringboot's


class Row:
    """One kind of load."""

    kind = ""  # which servers can serve it
    has_receivers = has_congestion = False
    file, block_size, window = None, None, 1  # of TFTP
    body_bytes = 0  # the longest body of HTTP

    def prepare(self, lab, log):
        """Called once, before the first server is measured."""


class Transfers(Row):
    """Clients that fetch files as a scenario says. Unit of speed: MB/s, or requests a second."""

    has_receivers = True
    more = ()  # words for loadtest

    def __init__(self, name, kind, steps, clients, duration=None, per_request=False, file=None, body=None, options={}):
        self.name, self.kind, self.steps, self.clients = name, kind, steps, clients
        self.duration, self.per_request = duration, per_request
        self.file, self.body_bytes = file, FILES.get(body, body or 0)
        self.block_size, self.window = options.get("blksize"), options.get("windowsize", 1)
        self.has_congestion = body is not None
        self.speed_unit = "requests/s" if per_request else "MB/s"
        self.cpu_unit = "us/request" if per_request else "CPU-s/GB"

    def scenario(self):
        files = "\n".join(f'"{name}" = "{size >> 10}KiB"' for name, size in FILES.items())
        duration = f'duration = "{self.duration}s"\n' if self.duration else ""
        return (f'about = "{self.name}"\nclients = {self.clients}\n{duration}[files]\n{files}\n'
                f"[[machine]]\nsteps = [{', '.join(self.steps)}]\n")

    def run(self, lab, server, series):
        scenario, out = lab.scratch / "scenario.toml", lab.scratch / "report.json"
        scenario.write_text(self.scenario())
        out.unlink(missing_ok=True)
        command = [lab.loadtest, "--server", "127.0.0.1", "--no-dhcp", "--made-files", "--scenario", scenario,
                   "--json", out, "--quiet", "--verify", RECEIVERS[series.receiver], *self.more]
        ended, spent = lab.run_client(server, command, RUN_S)
        if not out.exists():
            raise Failed(f"loadtest gave no report: {ended.stderr[-300:]}")
        report = json.loads(out.read_text())
        summary = report["summary"]
        requests = sum(stage["count"] for stage in report["stages"].values())
        amount = requests if self.per_request else summary["bytes"] / 1e6
        per = requests / 1e6 if self.per_request else summary["bytes"] / 1e9
        return {
            "speed": amount / summary["wall_s"],
            **costs(spent, per, summary["client_cpu_s"]),
            "client_busy": summary["client_busy"],
            "wall_s": summary["wall_s"],
            "machines": summary["machines"],
            "booted": summary["booted"],
            "retries": summary["retries"],
            "server_rss_mib": server.group.rss_mib(),
            "limits": report.get("limits", []),
            "boot": {key: report["boot"][key] for key in ("count", "p50_us", "p99_us", "max_us")},
            "failures": report.get("failures", [])[:3],
        }


def costs(spent, per, client_s):
    """Processor seconds for one unit of the row: of the server, of the client's process, and of both cores with all that ran on them.
    `stolen`: which part of them the host gave to others meanwhile."""
    each = lambda seconds: seconds / per if per else None
    return {"cpu": each(spent.server_s), "client": each(client_s), "both": each(spent.both_s), "stolen": spent.stolen()}


class Storm(Transfers):
    """The boot storm: what counts is when the last machine has everything, and when the median one has."""

    def __init__(self, name, clients):
        steps = ['{ tftp = "pxelinux.0", blksize = 1468 }', '{ http = "vmlinuz", connection = "keep" }',
                 '{ http = "initrd.img", connection = "keep" }']
        super().__init__(name, "storm", steps, clients, file="pxelinux.0", body="initrd.img", options={"blksize": 1468})


class Joined(Transfers):
    """Windows to clients whose kernel joins datagrams, beside what the same kernel carries without any protocol."""

    more = ("--gro",)

    def run(self, lab, server, series):
        return server.sample() if hasattr(server, "sample") else super().run(lab, server, series)


class Perfdhcp(Row):
    """Exchanges at a rate by perfdhcp, which has no percentiles."""

    kind, speed_unit, cpu_unit = "dhcp", "leases/s", "us/lease"

    def at(self, lab, server, rate):
        command = [lab.program("perfdhcp"), "-4", "-l", lab.client_interface, "-g", "single", "-r", rate,
                   "-R", DHCP_CLIENTS, "-p", DHCP_PERIOD_S, SERVER_ADDRESS]
        ended, spent = lab.run_client(server, command, DHCP_RUN_S)
        text = ended.stdout
        sent = [int(count) for count in re.findall(r"^sent packets: (\d+)", text, re.M)]
        received = [int(count) for count in re.findall(r"^received packets: (\d+)", text, re.M)]
        if len(sent) < 2 or len(received) < 2:
            raise Failed(f"perfdhcp said nothing of packets: {text[-300:]}")
        # The exchange that the end of the period cuts in two is not the server's loss.
        lost = max(sent[0] - received[1] - 1, 0) / max(sent[0], 1)
        delays = re.findall(r"^avg delay: ([0-9.]+) ms", text, re.M)
        return {"speed": received[1] / DHCP_PERIOD_S, "rate": rate, "lost": lost,
                # A generator that cannot send that fast has not shown that the server can answer that fast.
                "passed": lost < DHCP_LOSS_MAX and sent[0] >= 0.95 * rate * DHCP_PERIOD_S,
                **costs(spent, received[1] / 1e6, spent.client_s), "client_busy": spent.client_s / spent.elapsed_s,
                "avg_ms": [float(delay) for delay in delays], "server_rss_mib": server.group.rss_mib()}


class OwnDhcp(Perfdhcp):
    """Exchanges at a rate by the load generator's relay agents, with percentiles."""

    def at(self, lab, server, rate):
        scenario, out = lab.scratch / "scenario.toml", lab.scratch / "report.json"
        machines = rate * DHCP_PERIOD_S
        scenario.write_text(f'about = "leases"\nclients = {machines}\narrival = "poisson:{rate}/s"\n'
                            "[[machine]]\nsteps = [{ dhcp = true }]\n")
        out.unlink(missing_ok=True)
        command = [lab.loadtest, "--server", SERVER_ADDRESS, "--dhcp", "--relay", f"{CLIENT_ADDRESS}:67", "--yes",
                   "--scenario", scenario, "--json", out, "--quiet", "--keep-leases"]
        ended, spent = lab.run_client(server, command, DHCP_RUN_S)
        if not out.exists():
            raise Failed(f"loadtest gave no report: {ended.stderr[-300:]}")
        report = json.loads(out.read_text())
        summary, leases = report["summary"], report["stages"].get("dhcp", {}).get("count", 0)
        if not leases:
            raise Failed("no machine got an address")
        lost = (summary["failed"] + summary["retries"]) / machines
        times = {name: {key: report[field][key] for key in ("count", "p50_us", "p99_us", "max_us")}
                 for name, field in (("offer", "dhcp_offer"), ("ack", "dhcp_ack"))}
        return {"speed": leases / summary["wall_s"], "rate": rate, "lost": lost, "passed": lost < DHCP_LOSS_MAX,
                **costs(spent, leases / 1e6, summary["client_cpu_s"]), "client_busy": summary["client_busy"], **times,
                "server_rss_mib": server.group.rss_mib(), "limits": report.get("limits", [])}


def find_highest(at):
    """The sample of the highest rate that passes; `at` gives the sample of a rate, and fails where the server cannot serve it."""
    first = DHCP_RATES.index(DHCP_RATE_FIRST)
    best, why = None, f"more than {DHCP_LOSS_MAX:.0%} lost at {DHCP_RATES[0]} exchanges a second"
    for rates in (DHCP_RATES[first:], DHCP_RATES[:first][::-1]):
        for rate in rates:
            try:
                sample = at(rate)
            except Failed as failure:
                sample, why = {"passed": False}, str(failure)
            # The search climbs until a rate fails, or descends until one passes.
            if sample["passed"]:
                best = sample
            if sample["passed"] != (rate >= DHCP_RATE_FIRST):
                break
        if best is not None:
            return best
    raise Failed(why)


class HighestRate:
    """The highest rate of four-way exchanges with less than 1 % lost."""

    def run(self, lab, server, _series):
        self.at(lab, server, DHCP_RATE_WARM_UP)
        return find_highest(lambda rate: self.at(lab, server, rate))


class HighestByPerfdhcp(HighestRate, Perfdhcp):
    name = "DHCP, perfdhcp, highest rate"


class HighestByLoadtest(HighestRate, OwnDhcp):
    name = "DHCP, loadtest, highest rate"


class FixedRate(OwnDhcp):
    """The same rate for every server, whatever is lost."""

    name, rate = f"DHCP, loadtest, {DHCP_RATE_FIXED:,} a second", DHCP_RATE_FIXED

    def run(self, lab, server, _series):
        self.at(lab, server, DHCP_RATE_WARM_UP)
        return self.at(lab, server, self.rate)


class KeasRate(FixedRate):
    """The rate at which Kea is at its best."""

    name = "DHCP, loadtest, Kea's highest rate"

    def prepare(self, lab, log):
        kea = Kea(lab)
        try:
            kea.start(self)
            self.at(lab, kea, DHCP_RATE_WARM_UP)
            self.rate = find_highest(lambda rate: self.at(lab, kea, rate))["rate"]
        finally:
            kea.stop()
        log(f"Kea's highest rate: {self.rate} a second")


def tftp(name, options, clients):
    # About half a gigabyte a run: enough to outlast the noise of the start. One client in lock step fetches an eighth of that, in a
    # second or two.
    file, repeat = {1: ("vmlinuz", 8), 50: ("vmlinuz", 1), 500: ("one.bin", 1)}[clients]
    words = "".join(f", {key} = {value}" for key, value in options.items())
    steps = [f'{{ tftp = "{file}"{words}, repeat = {repeat} }}']
    return Transfers(f"TFTP {name} x {clients}", "tftp", steps, clients, file=file, options=options)


def http(name, step, clients, body, **more):
    return Transfers(f"HTTP {name}", "http", [step], clients, body=body, **more)


WINDOW_64 = {"blksize": 1468, "windowsize": 64}

ROWS = [
    *[tftp(name, options, clients)
      for name, options in [("lockstep 1468", {"blksize": 1468}), ("no options", {}),
                            ("window 16", {"blksize": 1468, "windowsize": 16}), ("window 64", WINDOW_64)]
      for clients in (1, 50, 500)],
    Joined("TFTP window 64 x 500, joined on arrival", "joined",
           ['{ tftp = "vmlinuz", blksize = 1468, windowsize = 64 }'], 500, file="vmlinuz", options=WINDOW_64),
    http("4 KiB keep-alive x 64", '{ http = "small.bin", connection = "keep" }', 64, "small.bin", duration=4, per_request=True),
    http("4 KiB, a connection each x 64", '{ http = "small.bin", connection = "close" }', 64, "small.bin", duration=4, per_request=True),
    # Large bodies over loopback go fast or slowly by how windows and acknowledgements meet: a second of it is a throw of dice.
    http("64 MiB x 64", '{ http = "large.bin", connection = "keep", repeat = 4 }', 64, "large.bin"),
    http("1 MiB ranges x 64", '{ http = "large.bin", connection = "keep", range = "1MiB", repeat = 300 }', 64, MIB),
    http("8 MiB x 500", '{ http = "vmlinuz", connection = "keep" }', 500, "vmlinuz"),
    HighestByPerfdhcp(),
    HighestByLoadtest(),
    FixedRate(),
    KeasRate(),
    Storm("boot storm x 500", 500),
]
