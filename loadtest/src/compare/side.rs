//! One side of a comparison as it is written on the command line.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::json::ReportDocument;

/// One side of a comparison, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ComparisonSide {
    name: String,
    what: SideSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SideSource {
    /// Reports of earlier runs: files, and directories of them.
    Reports(Vec<PathBuf>),
    /// A running server.
    Server { address: Ipv4Addr, ports: Option<(u16, u16)>, pid: Option<u32> },
    /// A server program, started for each run.
    Program(PathBuf),
}

pub(super) fn parse_side_a(text: &str) -> Result<ComparisonSide, String> {
    ComparisonSide::parse(text, "A")
}

pub(super) fn parse_side_b(text: &str) -> Result<ComparisonSide, String> {
    ComparisonSide::parse(text, "B")
}

impl ComparisonSide {
    fn parse(text: &str, otherwise: &str) -> Result<Self, String> {
        let (name, what) = match text.split_once('=') {
            Some((name, what)) if !name.is_empty() && !name.contains(['/', ':', ',']) => {
                (name, what)
            }
            _ => (otherwise, text),
        };
        Ok(Self { name: name.to_owned(), what: SideSource::parse(what)? })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// True if the side is a server, which this comparison loads.
    pub(super) fn is_driven(&self) -> bool {
        !matches!(self.what, SideSource::Reports(_))
    }

    /// The reports of earlier runs; empty for a server.
    pub(super) fn read_reports(&self) -> anyhow::Result<Vec<ReportDocument>> {
        let SideSource::Reports(paths) = &self.what else { return Ok(Vec::new()) };
        let mut reports = Vec::new();
        for path in paths {
            if !path.is_dir() {
                reports.push(ReportDocument::read(path)?);
                continue;
            }
            let files = find_report_files(path)?;
            if files.is_empty() {
                bail!("there is no .json file in {}", path.display());
            }
            for file in files {
                reports.push(ReportDocument::read(&file)?);
            }
        }
        Ok(reports)
    }

    /// The arguments with which a run of `loadtest` loads this server.
    pub(super) fn run_arguments(&self) -> Vec<String> {
        match &self.what {
            SideSource::Reports(_) => Vec::new(),
            SideSource::Program(program) => {
                vec!["--ringboot".to_owned(), program.display().to_string()]
            }
            SideSource::Server { address, ports, pid } => {
                let mut arguments = vec!["--server".to_owned(), address.to_string()];
                if let Some((tftp, http)) = ports {
                    for (flag, port) in [("--tftp", tftp), ("--http", http)] {
                        arguments.extend([flag.to_owned(), format!("{address}:{port}")]);
                    }
                }
                if let Some(pid) = pid {
                    arguments.extend(["--pid".to_owned(), pid.to_string()]);
                }
                arguments
            }
        }
    }
}

impl SideSource {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(program) = text.strip_prefix("ringboot:") {
            return Ok(Self::Program(PathBuf::from(program)));
        }
        let (place, pid) = match text.rsplit_once('@') {
            Some((place, pid)) => (place, pid.parse().ok()),
            None => (text, None),
        };

        // Everything that does not begin with an address is a list of report files, whose names may
        // have an `@` or a `:` as well. So the errors of a server come only after this.
        let (address, ports) =
            place.split_once(':').map_or((place, None), |(address, ports)| (address, Some(ports)));
        let Ok(address) = address.parse::<Ipv4Addr>() else {
            return Ok(Self::Reports(text.split(',').map(PathBuf::from).collect()));
        };
        let wrong = || {
            format!("a server is ADDR, ADDR:TFTP-PORT,HTTP-PORT or either with @PID, not {text}")
        };
        if text.contains('@') && pid.is_none() {
            return Err(wrong());
        }
        let ports = ports.map(|ports| parse_port_pair(ports).ok_or_else(wrong)).transpose()?;
        Ok(Self::Server { address, ports, pid })
    }
}

fn parse_port_pair(ports: &str) -> Option<(u16, u16)> {
    let (tftp, http) = ports.split_once(',')?;
    Some((tftp.parse().ok()?, http.parse().ok()?))
}

fn find_report_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        directory.read_dir().with_context(|| format!("cannot read {}", directory.display()))?;
    let paths: Result<Vec<PathBuf>, _> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut files = paths.with_context(|| format!("cannot read {}", directory.display()))?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::json::tests::made_up;

    #[test]
    fn a_side_is_reports_or_a_server_or_a_program() {
        let reports =
            |names: &[&str]| SideSource::Reports(names.iter().map(PathBuf::from).collect());
        let address = Ipv4Addr::new(10, 0, 0, 1);
        for (text, name, what) in [
            ("a.json", "A", reports(&["a.json"])),
            ("old=a.json,runs/b", "old", reports(&["a.json", "runs/b"])),
            ("./x=y/a.json", "A", reports(&["./x=y/a.json"])),
            ("10.0.0.1", "A", SideSource::Server { address, ports: None, pid: None }),
            (
                "ours=10.0.0.1:69,80",
                "ours",
                SideSource::Server { address, ports: Some((69, 80)), pid: None },
            ),
            (
                "10.0.0.1:69,80@77",
                "A",
                SideSource::Server { address, ports: Some((69, 80)), pid: Some(77) },
            ),
            (
                "new=ringboot:target/release/ringboot",
                "new",
                SideSource::Program("target/release/ringboot".into()),
            ),
        ] {
            let side = parse_side_a(text).unwrap();
            assert_eq!((side.name(), &side.what), (name, &what), "{text}");
        }
        for wrong in ["10.0.0.1:69", "10.0.0.1:69,x", "10.0.0.1@me"] {
            assert!(parse_side_a(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_is_told_to_every_run() {
        let words = parse_side_b("10.0.0.1:69,80@77").unwrap().run_arguments().join(" ");
        assert_eq!(words, "--server 10.0.0.1 --tftp 10.0.0.1:69 --http 10.0.0.1:80 --pid 77");
    }

    #[test]
    fn files_and_directories_of_reports_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        assert!(parse_side_a(&path("")).unwrap().read_reports().is_err(), "an empty directory");
        for name in ["1.json", "2.json"] {
            std::fs::write(path(name), made_up(3).to_json().unwrap()).unwrap();
        }
        std::fs::write(path("notes.txt"), "x").unwrap();
        assert_eq!(parse_side_a(&path("")).unwrap().read_reports().unwrap().len(), 2);
        let three = format!("{},{}", path("1.json"), path(""));
        assert_eq!(parse_side_a(&three).unwrap().read_reports().unwrap().len(), 3);
        assert!(parse_side_a(&path("3.json")).unwrap().read_reports().is_err());
    }
}
