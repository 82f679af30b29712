//! What operators see: events of machines, counters of cores, log lines. Cores push into this crate
//! and never wait for it.
//!
//! ```
//! use ringboot_observe::counters::SharedCount;
//!
//! let requests = SharedCount::default();
//! requests.add(1);
//! assert_eq!(requests.read(), 1);
//! ```
#![forbid(unsafe_code)]

/// Defines an enum whose variants have one word each. The store and the admin API write the word
/// and parse it back.
macro_rules! words {
    ($(#[$about:meta])* pub enum $name:ident {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of its declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word of this variant, as the store and the admin API have it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The variant with this word; None for a word that this version does not know.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
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
