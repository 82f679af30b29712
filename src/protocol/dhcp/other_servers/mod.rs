//! The search for other DHCP servers: the messages that find them, and when to look.

mod message;
#[cfg(test)]
mod tests;
mod watch;

pub use message::{
    LookResult, MonotonicMillis, PORT, RingbootMark, RivalLook, ServerMessage, build_look_discover,
    build_look_inform, build_rival_answer, find_look_client, parse_rival_look,
    parse_server_message,
};
pub use watch::{LookVerdict, PriorKnowledge, RivalResponse, ServerWatch};
