//! The log thread: one human line per machine and stage.

use std::sync::mpsc::Receiver;

use super::events::{Event, Stage, Weight};

/// Prints events until every sender is gone.
pub fn print_all(events: &Receiver<Event>) {
    while let Ok(event) = events.recv() {
        print(&event);
    }
}

fn print(event: &Event) {
    let who = match (event.mac, event.address) {
        (Some(mac), Some(address)) => format!("{mac} {address}"),
        (Some(mac), None) => mac.to_string(),
        (None, Some(address)) => address.to_canonical().to_string(),
        (None, None) => "-".to_owned(),
    };
    let stage = word(event.stage);
    match event.weight {
        Weight::Detail => tracing::debug!("{who} {stage}: {}", event.text),
        Weight::Step => tracing::info!("{who} {stage}: {}", event.text),
        Weight::Warning => tracing::warn!("{who} {stage}: {}", event.text),
    }
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Dhcp => "dhcp",
        Stage::Loader => "loader",
        Stage::Menu => "menu",
        Stage::Kernel => "kernel",
        Stage::Initrd => "initrd",
        Stage::AnswerFile => "answer file",
        Stage::File => "file",
    }
}
