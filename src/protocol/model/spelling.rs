//! The known word that a misspelt one may stand for.

/// The known word nearest to `word`, where one is near enough for a typing error.
pub fn find_nearest_word<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = word.to_ascii_lowercase().replace('_', "-");
    known
        .iter()
        .map(|candidate| (measure_distance(&plain, candidate), *candidate))
        .filter(|(steps, candidate)| *steps <= 1 + candidate.len() / 4)
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, candidate)| candidate)
}

/// The number of letters to add, drop or change between two words (Levenshtein).
fn measure_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (index, other) in to.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[index + 1];
            row[index + 1] = change.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_one_that_could_be_meant() {
        let known = ["subnet", "interface", "default-lease-time", "max-lease-time"];
        assert_eq!(find_nearest_word("subnets", &known), Some("subnet"));
        assert_eq!(find_nearest_word("max_lease_time", &known), Some("max-lease-time"));
        assert_eq!(find_nearest_word("Interface", &known), Some("interface"));
        assert_eq!(find_nearest_word("colour", &known), None);
    }
}
