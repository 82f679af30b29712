//! Formats numbers and times, and parses hardware addresses.

use std::time::Duration;

use crate::model::machine::Mac;
use crate::model::who::MachineSelector;

/// A hardware address in any spelling of `ringboot why`.
pub fn parse_mac(text: &str) -> Result<Mac, String> {
    match text.parse()? {
        MachineSelector::Mac(mac) => Ok(mac),
        MachineSelector::Address(_) => {
            Err("a hardware address is six bytes in hexadecimal, such as 52:54:00:12:34:10"
                .to_owned())
        }
    }
}

/// Whole milliseconds.
pub fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// "90 s", "9 min", "25 h", "10 days"
pub fn format_span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// "1 error", "2 errors"
pub fn format_count(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_words() {
        let told = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(format_span);
        assert_eq!(told, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]);
    }
}
