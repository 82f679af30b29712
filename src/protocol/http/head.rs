//! Writes a response head: fields, numbers and the date, without a format string.

use std::time::SystemTime;

/// Ends the line before, and writes the name and value of a header field.
pub(super) fn write_header_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
}

pub(super) fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] += (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// The value of Date (H-31), formatted once a second.
#[derive(Debug, Default)]
pub struct DateHeader {
    /// Seconds since 1970 of `text`.
    second: u64,
    text: String,
}

impl DateHeader {
    /// The time as an HTTP date.
    pub fn at(&mut self, now: SystemTime) -> &str {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second != second || self.text.is_empty() {
            self.second = second;
            self.text = httpdate::fmt_http_date(now.max(SystemTime::UNIX_EPOCH));
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn h11_numbers_are_written_whole() {
        for number in [0, 7, 10, 4096, 5_368_709_120, u64::MAX] {
            let mut out = Vec::new();
            write_decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn h31_the_date_moves_on_with_each_second_and_back_with_the_clock() {
        let mut date = DateHeader::default();
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(date.at(at(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date.at(at(1_700_000_000_999)), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(date.at(at(1_700_000_001_000)), "Tue, 14 Nov 2023 22:13:21 GMT");
        assert_eq!(date.at(at(1_700_000_000_500)), "Tue, 14 Nov 2023 22:13:20 GMT");
    }
}
