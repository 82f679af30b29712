//! What operators see: events of machines, counters of cores, log lines. Cores only ever push here;
//! nothing waits.
//!
//! ```
//! use ringboot_observe::counters::SharedCount;
//!
//! let requests = SharedCount::default();
//! requests.add(1);
//! assert_eq!(requests.read(), 1);
//! ```
#![forbid(unsafe_code)]

/// An enum whose variants are known by a word each: what is kept or sent by its word is read back
/// by it.
macro_rules! words {
    ($(#[$about:meta])* pub enum $name:ident {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The one whose word this is.
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.word() == word)
            }
        }
    };
}

pub mod cause;
pub mod counters;
mod entry;
pub mod events;
pub mod finding;
pub mod flight;
pub mod journal;
#[cfg(test)]
mod levels;
mod lines;
pub mod log;
pub mod pace;
pub mod port_holder;
pub mod sink;
pub mod standing;
mod stop;
pub mod threads;
pub mod timeline;
