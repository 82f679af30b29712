//! The finding about another DHCP server that an earlier run of the server saw.

use super::CheckFinding;
use crate::config::Config;
use crate::dhcp::other_servers::LookResult;
use crate::dhcp::subnet::AnsweringMode;

pub(super) fn report_other_server(config: &Config, look: &LookResult) -> Option<CheckFinding> {
    let server = look.server?;
    let mut served =
        config.snapshot.dhcp.subnets.iter().filter(|one| one.mode == AnsweringMode::Server);
    let subnet = served.find(|subnet| subnet.network == look.network)?;
    let seen = format!("{server} answered on {} when ringboot last looked", subnet.network);
    let finding = match subnet.allow_other_servers {
        true => CheckFinding::note(format!(
            "{seen}; the subnet is served beside it (allow-other-servers)"
        )),
        false => CheckFinding::warning(
            format!("{seen}: it is silent there"),
            "stop that server, or serve beside it with `allow-other-servers = true`",
        ),
    };
    Some(finding.at_position(config.places.find_subnet(subnet.network, "subnet")))
}
