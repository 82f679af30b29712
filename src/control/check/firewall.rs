//! Reads the listing of the firewall: where it drops input, does a rule accept boot clients? Best
//! effort.

/// A transport and a port that clients must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WantedPort {
    /// `udp` or `tcp`, as both listings spell it.
    pub(super) protocol: &'static str,
    pub(super) port: u16,
}

/// The ports that the output of `nft list ruleset` or `iptables-save` seems to block. Empty where
/// the firewall does not drop input.
pub(super) fn find_shut_ports(listing: &str, wanted: &[WantedPort]) -> Vec<WantedPort> {
    if !drops_input(listing) {
        return Vec::new();
    }
    let accepts: Vec<&str> =
        listing.lines().map(str::trim).filter(|line| is_accept_rule(line)).collect();
    wanted
        .iter()
        .copied()
        .filter(|wanted| !accepts.iter().any(|line| lets_port_in(line, *wanted)))
        .collect()
}

/// True for a policy, or a rule without conditions, that drops the packets which no rule accepted.
fn drops_input(listing: &str) -> bool {
    let mut in_input_chain = false;
    for line in listing.lines().map(str::trim) {
        if line.starts_with("chain ") {
            in_input_chain = false;
        }
        in_input_chain |= line.contains("hook input");
        let by_policy = line.contains("hook input") && line.contains("policy drop")
            || line.starts_with(":INPUT DROP");
        let first = line.split_whitespace().next().unwrap_or_default();
        let by_rule = in_input_chain && matches!(first, "drop" | "reject")
            || line.starts_with("-A INPUT -j DROP")
            || line.starts_with("-A INPUT -j REJECT");
        if by_policy || by_rule {
            return true;
        }
    }
    false
}

/// True for an accepting rule. A policy is none: it begins with `:` (iptables) or is in the line of
/// the hook (nft).
fn is_accept_rule(line: &str) -> bool {
    let is_rule = !line.starts_with(':') && !line.contains("hook ");
    is_rule && line.split_whitespace().any(|word| word == "accept" || word == "ACCEPT")
}

fn lets_port_in(line: &str, wanted: WantedPort) -> bool {
    let other = if wanted.protocol == "udp" { "tcp" } else { "udp" };
    let words: Vec<&str> = line
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .collect();
    if words.contains(&other) && !words.contains(&wanted.protocol) {
        return false;
    }
    let ports = words.iter().position(|word| matches!(*word, "dport" | "--dport" | "--dports"));
    match ports {
        Some(at) => is_port_accepted(&words[at + 1..], wanted.port),
        // A rule for all ports counts, unless it is for replies, for loopback or for ICMP.
        None => {
            let narrow =
                ["ct", "--state", "--ctstate", "lo", "\"lo\"", "icmp", "icmpv6", "ipv6-icmp"];
            !words.iter().any(|word| narrow.contains(word) || word.starts_with("icmp"))
        }
    }
}

/// `{ 67, 69 } accept`, or a map to verdicts: `vmap { 80 : accept, 443 : drop }`. A named set
/// counts, since it may contain this port.
fn is_port_accepted(words: &[&str], port: u16) -> bool {
    words.iter().enumerate().any(|(at, word)| {
        word.starts_with('@') || contains_port(word, port) && allows_accept(&words[at + 1..])
    })
}

/// False where the words after a port map it to another verdict than `accept`.
fn allows_accept(after_port: &[&str]) -> bool {
    match after_port {
        [":", verdict, ..] => *verdict == "accept",
        [":"] => false,
        _ => true,
    }
}

/// `69`, `60-70` (nft), `60:70` (iptables).
fn contains_port(word: &str, port: u16) -> bool {
    match word.split_once(['-', ':']) {
        Some((first, last)) => match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&port),
            _ => false,
        },
        None => word.parse() == Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: [WantedPort; 3] = [
        WantedPort { protocol: "udp", port: 67 },
        WantedPort { protocol: "udp", port: 69 },
        WantedPort { protocol: "tcp", port: 80 },
    ];

    fn shut_ports(listing: &str) -> Vec<u16> {
        find_shut_ports(listing, &WANTED).iter().map(|wanted| wanted.port).collect()
    }

    fn nft(policy: &str, rules: &str) -> String {
        format!(
            "table inet filter {{\n\tchain input {{\n\t\ttype filter hook input priority filter; \
             policy {policy};\n\
             \t\tct state established,related accept\n\t\tiifname \"lo\" accept\n\t\tip protocol \
             icmp accept\n{rules}\n\t}}\n}}\n"
        )
    }

    #[test]
    fn nft_rules_that_let_clients_in_are_seen() {
        assert_eq!(shut_ports(""), [0; 0]);
        assert_eq!(shut_ports(&nft("accept", "")), [0; 0]);
        assert_eq!(shut_ports(&nft("drop", "")), [67, 69, 80]);
        assert_eq!(shut_ports(&nft("drop", "udp dport { 67, 69 } accept")), [80]);
        assert_eq!(shut_ports(&nft("drop", "udp dport 60-70 accept\ntcp dport 80 accept")), [0; 0]);
        assert_eq!(
            shut_ports(&nft("drop", "tcp dport { 67, 69, 80 } accept")),
            [67, 69],
            "of the other transport"
        );
        assert_eq!(shut_ports(&nft("drop", "iifname \"eth1\" accept")), [0; 0]);
        assert_eq!(
            shut_ports(&nft("accept", "tcp dport 22 accept\nreject with icmpx admin-prohibited")),
            [67, 69, 80]
        );
    }

    /// As `nft list ruleset` of nftables 1.0.6 prints it.
    #[test]
    fn named_sets_and_verdict_maps_of_nft_are_read() {
        const LISTING: &str = "table inet filter {
	set boot_ports {
		type inet_service
		elements = { 67, 69, 4011 }
	}

	chain input {
		type filter hook input priority filter; policy drop;
		ct state vmap { invalid : drop, established : accept, related : accept }
		iif \"lo\" accept
		meta l4proto { icmp, ipv6-icmp } accept
		iifname \"br0\" udp dport @boot_ports accept
		tcp dport vmap { 22 : accept, 80 : drop, 443 : accept }
		ip saddr 192.168.4.0/24 udp dport 1024-65535 counter packets 0 bytes 0 accept
		counter packets 0 bytes 0 reject with icmpx admin-prohibited
	}

	chain forward {
		type filter hook forward priority filter; policy drop;
	}
}
";
        assert_eq!(shut_ports(LISTING), [80]);
        assert_eq!(shut_ports(&LISTING.replace("80 : drop", "80 : accept")), [0; 0]);
        assert_eq!(shut_ports(&LISTING.replace("@boot_ports", "68")), [67, 69, 80]);
    }

    /// The shape of firewalld's tables: zones are chains of their own, and `ct status` is no way in
    /// for strangers.
    #[test]
    fn the_zones_of_firewalld_are_read() {
        const LISTING: &str = "table inet firewalld {
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname \"lo\" accept
		ct state invalid drop
		jump filter_INPUT_ZONES
		reject with icmpx admin-prohibited
	}

	chain filter_IN_public_allow {
		tcp dport 22 accept
		ip6 daddr fe80::/64 udp dport 546 accept
		udp dport 67 accept
	}
}
";
        assert_eq!(shut_ports(LISTING), [69, 80]);
    }

    #[test]
    fn iptables_rules_that_let_clients_in_are_seen() {
        let head = "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack \
                    --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
        assert_eq!(shut_ports(head), [67, 69, 80]);
        let rules = format!("{head}-A INPUT -p udp -m multiport --dports 67,69 -j ACCEPT\n");
        assert_eq!(shut_ports(&rules), [80]);
        let rules = format!("{rules}-A INPUT -p tcp -m tcp --dport 80:443 -j ACCEPT\nCOMMIT\n");
        assert_eq!(shut_ports(&rules), [0; 0]);
        let last = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n-A \
                    INPUT -j REJECT --reject-with x\n";
        assert_eq!(shut_ports(last), [67, 69, 80]);
    }
}
