"""What the tables say of given samples. tests/tidy.rs runs this: python3 -m unittest discover -s benches/peers"""

import unittest

import report
import rows
import run


def sample(speed, cpu, both=None, **more):
    return {"speed": speed, "cpu": cpu, "both": both, "machines": 10, "booted": 10, **more}


def result(row="HTTP 64 MiB x 64", receiver="discard", congestion="system", **samples):
    named = {name.replace("_", " "): runs for name, runs in samples.items()}
    return {"row": row, "receiver": receiver, "congestion": congestion, "speed_unit": "MB/s", "cpu_unit": "CPU-s/GB", "samples": named,
            "errors": {}, "measured": "once"}


class Ratios(unittest.TestCase):
    def test_ratios_are_of_runs_of_the_same_round(self):
        slow, quick = [sample(10, 1), sample(100, 2)], [sample(5, 2), sample(50, 1)]
        self.assertEqual(report.ratios(slow, quick, "speed"), [2, 2])
        self.assertEqual(report.ratios(slow, quick, "cpu"), [0.5, 2])
        self.assertEqual(report.ratios(slow, [sample(5, None)], "cpu"), [])

    def test_the_best_peer_is_one_whose_machines_all_got_through(self):
        samples = result(ringboot=[sample(9, 1)], fast=[sample(8, 1, booted=9)], slow=[sample(4, 1)], floor=[sample(12, 1)])["samples"]
        samples[report.BESIDE] = [sample(100, 1)]
        self.assertEqual(set(report.peers_of(samples)), {"slow"})
        del samples["slow"]
        self.assertEqual(set(report.peers_of(samples)), {"fast"})

    def test_a_floor_is_the_fastest_responder_for_speed_and_the_cheapest_for_processor_time(self):
        floors = {"floor: spins": [sample(20, 4, 8)], "floor: sleeps": [sample(16, 1, 9)]}
        against = report.against_floor(result(ringboot=[sample(10, 2, 16)], **floors))
        self.assertEqual((against.name, against.cpu_name, against.both_name), ("floor: spins", "floor: sleeps", "floor: spins"))
        self.assertEqual((against.speeds, against.cpus, against.boths), ([0.5], [2], [2]))
        peer = report.against_peer(result(ringboot=[sample(10, 2)], fast=[sample(5, 4)], cheap=[sample(1, 1)]))
        self.assertEqual((peer.name, peer.speeds, peer.cpus), ("fast", [2], [0.5]), "a peer's processor time is that of the fastest one")


class Tables(unittest.TestCase):
    def test_results_that_are_not_measured_again_stay_in_the_order_of_the_rows(self):
        old = [result("b", ringboot=[sample(1, 1)]), result("a", ringboot=[sample(1, 1)])]
        new = [result("b", ringboot=[sample(2, 1)]), result("b", "verify", ringboot=[sample(3, 1)])]
        merged = report.merge(old, new, ["a", "b"])
        speeds = [(one["row"], one["receiver"], one["samples"]["ringboot"][0]["speed"]) for one in merged]
        self.assertEqual(speeds, [("a", "discard", 1), ("b", "discard", 2), ("b", "verify", 3)])

    def test_a_row_shows_both_ratios_and_how_busy_the_client_was(self):
        whole = result(ringboot=[sample(10, 2, 3, client_busy=0.97, limits=["the load generator was the limit"])], nginx=[sample(5, 4, 6)],
                       floor=[sample(12, 1, 2)])
        text = report.markdown({"facts": {"machine": "two cores"}, "results": [whole]})
        self.assertIn("ringboot : nginx: speed x 2, server's processor x 0.5, both cores x 0.5", text)
        self.assertIn("ringboot : floor: speed x 0.833 (floor), server's processor x 2 (floor), both cores x 1.5 (floor)", text)
        self.assertIn("| ringboot | 10 | 2 | - | 3 | 97 % |", text)
        self.assertIn("> ringboot: the load generator was the limit", text)
        self.assertIn("## HTTP 64 MiB x 64, receiver that discards, the system congestion control", text)

    def test_a_limit_stands_once_with_the_servers_that_met_it(self):
        samples = {name: [sample(1, 1, limits=[f"{count} datagrams lost", "late"])] for name, count in [("a", 7), ("b", 1234.5)]}
        self.assertEqual(report.limit_lines(samples), ["a, b: 7 datagrams lost", "a, b: late"])

    def test_a_server_that_failed_has_its_reason_in_the_table(self):
        whole = result(ringboot=[sample(10, 2)], nginx=[])
        whole["errors"]["nginx"] = "is not ready"
        self.assertIn("| nginx | is not ready |", report.markdown({"facts": {}, "results": [whole]}))

    def test_dhcp_shows_offer_and_ack_apart(self):
        times = lambda p50, p99: {"p50_us": p50, "p99_us": p99}
        runs = [sample(9999, 80, offer=times(200, 1100 + turn), ack=times(900, 12400 - turn), lost=0.002) for turn in range(3)]
        whole = result("DHCP", None, None, ringboot=runs) | {"cpu_unit": "us/lease"}
        self.assertIn("| 0.2 / 1.1 | 0.9 / 12.4 | 0.20 % (0.20 %-0.20 %) |", report.markdown({"facts": {}, "results": [whole]}))

    def test_the_readme_has_the_receiver_that_discards_and_the_systems_congestion_control(self):
        samples = {"ringboot": [sample(10, 2, client_busy=0.5)], "lighttpd": [sample(20, 4)], "floor: sendfile": [sample(40, 1)]}
        results = [result(**samples)] + [result(receiver=receiver, congestion=congestion, ringboot=[sample(99, 1)])
                                         for receiver, congestion in [("verify", "system"), ("discard", "same")]]
        readme = f"# x\n\n{report.README_BEGIN}\n\n| old |\n|---|\n| 1 |\n\nafter\n"
        self.assertEqual(report.with_table(readme, results), f"""# x

{report.README_BEGIN}

| load | ringboot | best of the others | speed (least-most) | server's processor time | percent of the floor | client's core busy |
|---|---|---|---|---|---|---|
| HTTP 64 MiB x 64 | 10 MB/s | lighttpd 20 | **0.5** | 0.5 | 25 % | 50 % |

after
""")

    def test_a_storm_shows_when_the_last_and_the_median_machine_are_done(self):
        storm = lambda wall, half: sample(1, 1, wall_s=wall, boot={"p50_us": half * 1e6, "p99_us": 0, "max_us": 0, "count": 10})
        runs = {"ringboot": [storm(4, 2), storm(6, 3), storm(5, 2.5)], "nginx": [storm(10, 8)]}
        cells = report.readme_table([result("boot storm x 500", **runs)])[-1].split(" | ")
        self.assertEqual(cells[1:3], ["5 s, the median machine 2.5 s", "nginx 10 s, the median machine 8 s"])

    def test_a_responder_that_is_beaten_is_no_floor(self):
        for ours, shown in [(80, "80 %"), (105, "105 %"), (130, "-")]:
            samples = {"ringboot": [sample(ours, 1)], "floor: sendfile": [sample(100, 1)]}
            self.assertEqual(report.readme_table([result(**samples)])[-1].split(" | ")[5], shown)


class Measuring(unittest.TestCase):
    def test_busy_time_is_of_both_cores_without_idle_and_steal_is_told_apart(self):
        stat = "cpu  9 9 9 9 9 9 9 9\ncpu0 100 1 20 500 7 3 4 60 0 0\ncpu1 10 0 2 900 0 0 0 0 0 0\ncpu2 77 0 0 0 0 0 0 0\nintr 1\n"
        ticks = run.os.sysconf("SC_CLK_TCK")
        self.assertEqual(run.cores_s(stat, ["0", "1"]), [(128 + 12) / ticks, 60 / ticks])

    def test_the_search_for_the_highest_rate_climbs_or_descends(self):
        for highest in (60, 500, 2000, 9000, 10**6):
            tried = []

            def at(rate):
                tried.append(rate)
                return {"rate": rate, "passed": rate <= highest}

            expected = max(rate for rate in rows.DHCP_RATES if rate <= highest)
            self.assertEqual(rows.find_highest(at)["rate"], expected)
            self.assertEqual(len(set(tried)), len(tried))
        with self.assertRaises(rows.Failed):
            rows.find_highest(lambda rate: {"passed": False})

    def test_a_row_is_measured_in_every_series_that_differs(self):
        http = next(row for row in rows.ROWS if row.kind == "http")
        tftp = next(row for row in rows.ROWS if row.kind == "tftp")
        dhcp = next(row for row in rows.ROWS if row.kind == "dhcp")
        both = (["verify", "discard"], ["system", "same"])
        self.assertEqual(len(run.series_of(http, *both, "bbr")), 4)
        self.assertEqual(len(run.series_of(http, *both, "cubic")), 2)
        self.assertEqual(run.series_of(http, ["discard"], ["same"], "cubic"), [("discard", "same")])
        self.assertEqual(run.series_of(tftp, *both, "bbr"), [("verify", None), ("discard", None)])
        self.assertEqual(run.series_of(dhcp, *both, "bbr"), [(None, None)])

    def test_every_row_of_the_readme_is_measured(self):
        names = {row.name for row in rows.ROWS}
        self.assertLessEqual({row for _, row in report.README_ROWS}, names)
        self.assertEqual(len(names), len(rows.ROWS))


if __name__ == "__main__":
    unittest.main()
