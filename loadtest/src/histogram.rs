//! Histograms as text in a report, so that `loadtest merge` can add them.

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// In the form of HdrHistogram's logs: V2, compressed, base64. None if the histogram is too large
/// for its writer.
pub(crate) fn encode_histogram(histogram: &Histogram<u64>) -> Option<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).ok()?;
    Some(STANDARD.encode(bytes))
}

pub(crate) fn decode_histogram(text: &str) -> anyhow::Result<Histogram<u64>> {
    let bytes = STANDARD.decode(text).context("a histogram is not base64")?;
    Deserializer::new()
        .deserialize(&mut &bytes[..])
        .map_err(|error| anyhow!("a histogram is broken: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_histogram_is_read_back_as_it_was() {
        let mut histogram = Histogram::<u64>::new_with_max(3_600_000_000, 3).unwrap();
        [5, 70_000, 70_001, 3_599_999_999].into_iter().for_each(|us| histogram.record(us).unwrap());
        assert_eq!(decode_histogram(&encode_histogram(&histogram).unwrap()).unwrap(), histogram);
        assert!(decode_histogram("!").is_err() && decode_histogram("AAAA").is_err());
    }
}
