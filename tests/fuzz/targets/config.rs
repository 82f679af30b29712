//! A configuration file, however damaged: it is taken, or every complaint names a place that is in
//! the file.

use ringboot::config::Config;

/// Longer files say nothing new, and only take time.
const BYTES_MAX: usize = 16 * 1024;

pub(crate) fn file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.len() > BYTES_MAX {
        return;
    }
    let Err(problems) = Config::parse("/etc/ringboot/ringboot.toml", text) else { return };
    assert!(!problems.0.is_empty(), "refused, and nothing is wrong");
    // An empty last line is a place as well.
    let lines = text.matches('\n').count() + 1;
    for problem in &problems.0 {
        assert!(
            (1..=lines).contains(&problem.line) && problem.column >= 1,
            "{problem} of {lines} lines"
        );
        assert!(!problem.what.is_empty() && !problem.what.contains('\n'), "{problem}");
    }
}
