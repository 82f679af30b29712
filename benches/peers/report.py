#!/usr/bin/env python3
"""What the samples of a run say: ratios, tables, and the table of the README. Knows no server, and runs nothing.

usage: benches/peers/report.py FILE.json     writes FILE.md again, and the table of README.md
       benches/peers/report.py --check FILE.json     says whether both are what the samples give
"""

import json
import re
import statistics
import sys
from pathlib import Path

OURS = "ringboot"
FLOOR = "floor"  # what the names of bare responders begin with
BESIDE = "no protocol"  # neither a peer nor a floor

# Labels in README.md, and the rows they stand for. Of each row: the receiver that discards, and the congestion control that servers have
# as their packages ship them.
README_ROWS = [
    ("TFTP lock step, 1 machine", "TFTP lockstep 1468 x 1"),
    ("TFTP lock step, 500 machines", "TFTP lockstep 1468 x 500"),
    ("TFTP without options, 500 machines", "TFTP no options x 500"),
    ("TFTP windows of 16, 500 machines", "TFTP window 16 x 500"),
    ("TFTP windows of 64, 500 machines", "TFTP window 64 x 500"),
    ("HTTP 64 MiB x 64", "HTTP 64 MiB x 64"),
    ("HTTP 1 MiB ranges x 64", "HTTP 1 MiB ranges x 64"),
    ("HTTP 8 MiB x 500", "HTTP 8 MiB x 500"),
    ("HTTP 4 KiB, a connection each", "HTTP 4 KiB, a connection each x 64"),
    ("HTTP 4 KiB, keep-alive", "HTTP 4 KiB keep-alive x 64"),
    ("500 machines: loader by TFTP, 40 MB by HTTP", "boot storm x 500"),
    ("DHCP leases, highest rate", "DHCP, loadtest, highest rate"),
]
# A bare responder that ringboot beats by more than this is not the least that is possible: the row has no percent of a floor.
BEATEN_FLOOR = 1.1
README_BEGIN = "<!-- benches/peers/report.py writes this table -->"


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def known(values):
    return [value for value in values if value is not None]


def spread(values, show=number):
    """`median (least-most)`"""
    values = known(values)
    if not values:
        return "-"
    if len(values) == 1:
        return show(values[0])
    return f"{show(statistics.median(values))} ({show(min(values))}-{show(max(values))})"


def median(values):
    values = known(values)
    return statistics.median(values) if values else None


def ratios(ours, theirs, key):
    """Of runs of the same round, so that noise that lasts longer than a round cancels out."""
    return [mine[key] / other[key] for mine, other in zip(ours, theirs) if mine.get(key) and other.get(key)]


def failed(sample):
    return sample.get("machines", 0) - sample.get("booted", 0)


def best(samples, key, is_less_better=False):
    """The name with the best median of this figure; None without a sample."""
    medians = {name: median(run.get(key) for run in runs) for name, runs in samples.items()}
    medians = {name: middle for name, middle in medians.items() if middle is not None}
    return (min if is_less_better else max)(medians, key=medians.get, default=None)


def peers_of(samples):
    """The peers whose machines all got through; if there are none, all peers."""
    peers = {name: runs for name, runs in samples.items() if runs and name not in (OURS, BESIDE) and not name.startswith(FLOOR)}
    whole = {name: runs for name, runs in peers.items() if not any(failed(run) for run in runs)}
    return whole or peers


def floors_of(samples):
    return {name: runs for name, runs in samples.items() if runs and name.startswith(FLOOR)}


class Against:
    """Ringboot against the best peer, or against the floor: the fastest of them for speed, and the cheapest of floors for processor time."""

    def __init__(self, samples, rivals, is_floor):
        ours = samples.get(OURS, [])
        self.name = best(rivals, "speed")
        self.speeds = ratios(ours, rivals.get(self.name, []), "speed")
        self.cpu_name = best(rivals, "cpu", is_less_better=True) if is_floor else self.name
        self.cpus = ratios(ours, rivals.get(self.cpu_name, []), "cpu")
        self.both_name = best(rivals, "both", is_less_better=True) if is_floor else self.name
        self.boths = ratios(ours, rivals.get(self.both_name, []), "both")

    def line(self, label):
        if not self.speeds:
            return None
        names = [self.name, self.cpu_name, self.both_name]
        shown = [f" ({name})" if label == FLOOR else "" for name in names]
        title = label if label == FLOOR else self.name
        return (f"{OURS} : {title}: speed x {spread(self.speeds)}{shown[0]}, server's processor x {spread(self.cpus)}{shown[1]}, "
                f"both cores x {spread(self.boths)}{shown[2]}")


def against_peer(result):
    return Against(result["samples"], peers_of(result["samples"]), is_floor=False)


def against_floor(result):
    return Against(result["samples"], floors_of(result["samples"]), is_floor=True)


def key_of(result):
    return (result["row"], result["receiver"], result["congestion"])


def merge(old, new, names):
    """The old results with the new ones in their places, in the order of the rows."""
    by_key = {key_of(result): result for result in old + new}
    place = {name: at for at, name in enumerate(names)}
    return sorted(by_key.values(), key=lambda result: (place.get(result["row"], len(names)), key_of(result)))


def title_of(result):
    words = [result["row"]]
    words += [f"receiver that {'verifies' if result['receiver'] == 'verify' else 'discards'}"] if result["receiver"] else []
    words += [f"{'the system' if result['congestion'] == 'system' else 'the same'} congestion control"] if result["congestion"] else []
    return ", ".join(words)


def percent(value):
    return f"{100 * value:.0f} %"


def milliseconds(times):
    """`p50 / p99` of a distribution in microseconds."""
    return f"{number(times['p50_us'] / 1000)} / {number(times['p99_us'] / 1000)}" if times else "-"


def columns(result):
    """The head of each column, and how its cell comes of the runs."""
    unit = result["cpu_unit"]
    common = [
        (result["speed_unit"], lambda runs: spread(run["speed"] for run in runs)),
        (f"server {unit}", lambda runs: spread(run["cpu"] for run in runs)),
        (f"client {unit}", lambda runs: spread(run.get("client") for run in runs)),
        (f"both cores {unit}", lambda runs: spread(run.get("both") for run in runs)),
        ("client's core busy", lambda runs: spread([run.get("client_busy") for run in runs], percent)),
        ("stolen", lambda runs: spread([run.get("stolen") for run in runs], percent)),
    ]
    memory = ("RSS MiB", lambda runs: spread(run.get("server_rss_mib") for run in runs))
    if result["cpu_unit"] == "us/lease":
        def times(name):
            # The distribution of the run in the middle.
            runs_of = lambda runs: sorted((run[name] for run in runs if run.get(name)), key=lambda one: one["p99_us"])
            return lambda runs: milliseconds((runs_of(runs) or [None])[len(runs_of(runs)) // 2])
        return common + [("OFFER p50 / p99 ms", times("offer")), ("ACK p50 / p99 ms", times("ack")),
                         ("lost", lambda runs: spread([run.get("lost") for run in runs], lambda part: f"{100 * part:.2f} %")), memory]
    return common + [
        ("wall s", lambda runs: spread(run.get("wall_s") for run in runs)),
        ("p50 s", lambda runs: spread(run["boot"]["p50_us"] / 1e6 if run.get("boot") else None for run in runs)),
        ("failed", lambda runs: str(max(map(failed, runs)) or "")),
        ("retries", lambda runs: spread(run.get("retries") for run in runs)),
        memory,
    ]


def limit_lines(samples):
    """Each limit once, with the servers that met it; the figures are those of the first run."""
    met = {}
    for name, runs in samples.items():
        for limit in (limit for run in runs for limit in run.get("limits") or []):
            met.setdefault(re.sub(r"\d[\d.,]*", "N", limit), (limit, {}))[1][name] = None
    return [f"{', '.join(names)}: {limit}" for limit, names in met.values()]


def table(heads, lines):
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)] + ["| " + " | ".join(cells) + " |" for cells in lines]


def overview(results):
    heads = ["row", "receiver", "congestion", OURS, "best peer", "floor", "speed : peer", "speed : floor", "server CPU : peer",
             "server CPU : floor", "both cores : peer", "both cores : floor", "client's core busy"]
    lines = []
    for result in results:
        samples = result["samples"]
        ours = samples.get(OURS) or []
        speed_of = lambda name: number(median(run["speed"] for run in samples.get(name) or []))
        peer, floor = against_peer(result), against_floor(result)
        middle = lambda values: number(median(values))
        lines.append([result["row"], result["receiver"] or "", result["congestion"] or "", f"{speed_of(OURS)} {result['speed_unit']}",
                      f"{peer.name} {speed_of(peer.name)}" if peer.name else "-", speed_of(floor.name), middle(peer.speeds), middle(floor.speeds),
                      middle(peer.cpus), middle(floor.cpus), middle(peer.boths), middle(floor.boths),
                      spread([median(run.get("client_busy") for run in ours)], percent)])
    return table(heads, lines)


def markdown(document):
    results = document["results"]
    lines = ["# Side by side", "",
             "Each cell: median (least-most) of the runs; ratios are of runs in the same round. Servers run on one core, clients on the other. A "
             "receiver that verifies compares every byte; one that discards counts them (HTTP: the kernel does not copy them). A floor is a bare "
             "responder that decides nothing: [how it is measured](../peers/README.md).", ""]
    lines += [f"- {key}: {value}" for key, value in document["facts"].items()] + ["", "## Overview", ""] + overview(results) + [""]
    for result in results:
        heads = columns(result)
        cells = [[name] + ([cell(runs) for _, cell in heads] if runs else [result["errors"].get(name, "-")[:80]] + [""] * (len(heads) - 1))
                 for name, runs in result["samples"].items()]
        lines += [f"## {title_of(result)}", ""] + table(["server"] + [head for head, _ in heads], cells) + [""]
        for line in (against_peer(result).line("peer"), against_floor(result).line(FLOOR)):
            lines += [line, ""] if line else []
        lines += [f"> {line}\n" for line in limit_lines(result["samples"])] + [f"Measured: {result['measured']}", ""]
    return "\n".join(lines)


def floor_percent(floor):
    """Ringboot's speed by that of the floor; a dash where the responder is no floor."""
    ratio = median(floor.speeds)
    return "-" if ratio is None or ratio > BEATEN_FLOOR else percent(ratio)


def amount(result, name):
    """How fast a server is: of a storm when the last and the median machine have everything, else its speed."""
    runs = result["samples"].get(name) or []
    if "storm" not in result["row"]:
        return number(median(run["speed"] for run in runs))
    half = median(run["boot"]["p50_us"] / 1e6 for run in runs if run.get("boot"))
    return f"{number(median(run.get('wall_s') for run in runs))} s, the median machine {number(half)} s"


def readme_table(results):
    """Figures of the receiver that discards, with the congestion control of the system."""
    chosen = {result["row"]: result for result in results
              if result["receiver"] in ("discard", None) and result["congestion"] in ("system", None)}
    lines = []
    for label, row in README_ROWS:
        result = chosen.get(row)
        if result is None or not result["samples"].get(OURS):
            continue
        peer, floor = against_peer(result), against_floor(result)
        busy = median(run.get("client_busy") for run in result["samples"][OURS])
        faster = spread(peer.speeds)
        unit = "" if "storm" in row else f" {result['speed_unit']}"
        lines.append([label, amount(result, OURS) + unit, f"{peer.name} {amount(result, peer.name)}" if peer.name else "-",
                      f"**{faster}**" if peer.speeds and median(peer.speeds) < 1 else faster,
                      number(median(peer.cpus)), floor_percent(floor),
                      percent(busy) if busy is not None else "-"])
    return table(["load", OURS, "best of the others", "speed (least-most)", "server's processor time", "percent of the floor",
                  "client's core busy"], lines)


def with_table(readme, results):
    """The README with this table in place of the one that stands behind the mark."""
    before, mark, after = readme.partition(README_BEGIN + "\n\n")
    if not mark:
        raise SystemExit(f"README.md has no line {README_BEGIN}")
    rest = after.split("\n")
    while rest and rest[0].startswith("|"):
        rest.pop(0)
    return before + mark + "\n".join(readme_table(results) + rest)


def main():
    words = [word for word in sys.argv[1:] if word != "--check"]
    path = Path(words[0])
    document = json.loads(path.read_text())
    readme = Path(__file__).resolve().parent.parent.parent / "README.md"
    wanted = {path.with_suffix(".md"): markdown(document) + "\n", readme: with_table(readme.read_text(), document["results"])}
    for file, text in wanted.items():
        if "--check" not in sys.argv:
            file.write_text(text)
        elif file.read_text() != text:
            raise SystemExit(f"{file} is not what {path} gives: run {Path(__file__).name} {path}")


if __name__ == "__main__":
    main()
