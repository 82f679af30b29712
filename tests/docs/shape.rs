//! Whether a sample of output has the shape of what was printed: the same words, whatever the
//! numbers, times and units.

/// The first line of the sample that the output does not have in its place. A line `...` of the
/// sample stands for any number of lines, and `...` at the end of a line for the rest of it.
pub(crate) fn first_difference(sample: &[String], printed: &str) -> Option<String> {
    let printed: Vec<&str> =
        printed.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let mut rest = &printed[..];
    let mut anywhere = false;
    for line in sample.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()) {
        if line.trim() == "..." {
            anywhere = true;
            continue;
        }
        let reach = if anywhere { rest.len() } else { rest.len().min(1) };
        let Some(at) = rest[..reach].iter().position(|there| is_like(line, there)) else {
            let there = rest.first().map_or("the end of the output", |there| *there);
            return Some(format!("the sample has\n  {line}\nwhere there is\n  {there}"));
        };
        rest = &rest[at + 1..];
        anywhere = false;
    }
    match rest.first() {
        Some(more) if !anywhere => Some(format!("the sample ends before\n  {more}")),
        _ => None,
    }
}

fn is_like(sample: &str, printed: &str) -> bool {
    match sample.strip_suffix("...") {
        Some(begin) => shape(printed).starts_with(shape(begin).trim_end()),
        None => shape(sample) == shape(printed),
    }
}

/// Words with `0` in place of each number, `U` in place of its unit, and one space between them.
fn shape(line: &str) -> String {
    const UNITS: &[&str] = &[
        "ns", "us", "µs", "ms", "s", "min", "h", "d", "days", "B", "kB", "MB", "GB", "KiB", "MiB",
        "GiB", "bytes", "MB/s", "GB/s", "kB/s", "CPU-s",
    ];
    const DAYS: &[&str] = &["Mon,", "Tue,", "Wed,", "Thu,", "Fri,", "Sat,", "Sun,"];
    const MONTHS: &[&str] =
        &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = Vec::new();
    let mut after_number = false;
    for word in line.split_whitespace() {
        let bare = word.trim_end_matches([',', '.', ';', ')', ':']);
        let tail = &word[bare.len()..];
        let masked = match () {
            () if after_number && UNITS.contains(&bare) => format!("U{tail}"),
            () if after_number && matches!(bare, "errors" | "warnings") => {
                format!("{}{tail}", &bare[..bare.len() - 1])
            }
            () if DAYS.contains(&word) => "DAY".to_owned(),
            () if after_number && MONTHS.contains(&bare) => "MONTH".to_owned(),
            () => numbers_masked(word),
        };
        // An address that the kernel made has other letters each time.
        let masked = if masked.starts_with("fe0::") { "LINK-LOCAL".to_owned() } else { masked };
        after_number = masked.ends_with('0');
        words.push(masked);
    }
    words.join(" ")
}

/// `12.5.3` and `10:04` become one `0`.
fn numbers_masked(word: &str) -> String {
    let mut masked = String::new();
    let mut characters = word.chars().peekable();
    while let Some(one) = characters.next() {
        if !one.is_ascii_digit() {
            masked.push(one);
            continue;
        }
        while let Some(next) = characters.peek().copied() {
            let mut ahead = characters.clone();
            ahead.next();
            let joins =
                matches!(next, '.' | ':' | ',') && ahead.peek().is_some_and(char::is_ascii_digit);
            if !next.is_ascii_digit() && !joins {
                break;
            }
            characters.next();
        }
        masked.push('0');
    }
    masked
}

#[test]
fn numbers_times_and_units_do_not_count_words_do() {
    let sample = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        first_difference(
            &sample(&["loader sent, 42 KiB in 0.9 ms"]),
            "loader  sent, 1 MiB in 12 s\n"
        ),
        None
    );
    assert_eq!(
        first_difference(
            &sample(&["at Mon, 23 Nov 2026 09:19:00 GMT"]),
            "at Fri, 1 Jan 2027 10:00:00 GMT"
        ),
        None
    );
    assert!(first_difference(&sample(&["loader sent, 42 KiB"]), "loader lost, 42 KiB").is_some());
    assert!(first_difference(&sample(&["one"]), "one\ntwo").is_some());
    assert!(first_difference(&sample(&["one", "two"]), "one").is_some());
}

#[test]
fn three_dots_stand_for_lines_and_for_the_rest_of_one() {
    let sample = ["one", "...", "four ...", "..."].map(str::to_owned);
    assert_eq!(first_difference(&sample, "one\ntwo\nthree\nfour and more\nfive"), None);
    assert!(first_difference(&sample, "one\ntwo\nthree").is_some());
}
