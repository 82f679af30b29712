//! Everything that is never on a packet's path: the store, templates, publishing.
pub mod templates;
