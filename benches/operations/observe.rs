//! What it costs a core to tell what happened, and the log thread to take it.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::mpsc::Receiver;

use ringboot::model::machine::Mac;
use ringboot::observe::events::{
    EventKind, EventSender, EventWeight, MachineEvent, MachineStage, open_event_queue,
};

use super::Operation;

pub(crate) fn operations() -> Vec<Operation> {
    let (events, log) = open_event_queue();
    vec![Operation::new("observe: push an event and take it out", move || tell(&events, &log))]
}

fn tell(events: &EventSender, log: &Receiver<MachineEvent>) -> MachineEvent {
    let (name, bytes) = (black_box("pxelinux.0"), black_box(26_461));
    events.push(MachineEvent {
        mac: Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10])),
        address: Some(IpAddr::from([192, 168, 4, 26])),
        stage: MachineStage::Loader,
        weight: EventWeight::Step,
        kind: EventKind::Sent { name: name.to_owned(), bytes },
        text: format!("TFTP sent {name:?}, {bytes} bytes"),
        attempt: None,
    });
    log.try_recv().unwrap()
}
