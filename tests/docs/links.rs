//! Links of the pages: each leads to a file, and to a heading of it, in the repository and in the
//! Debian package.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Where the package puts the papers; the tree below is that of the repository.
const PACKAGED: &str = "usr/share/doc/ringboot/";

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for page in super::pages() {
        for link in links_of(&fs::read_to_string(top.join(&page)).unwrap()) {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { beside(&page, file) };
            match fs::read_to_string(top.join(&target)) {
                Err(_) if top.join(&target).is_dir() && heading.is_empty() => {}
                Err(_) => wrong.push(format!("{}: {link} leads nowhere", page.display())),
                Ok(text) if heading.is_empty() || headings_of(&text).contains(heading) => {}
                Ok(_) => wrong.push(format!("{}: {link}: no such heading", page.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_link_of_a_packaged_page_leads_to_a_packaged_file() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packaged = packaged_papers(top);
    assert!(
        packaged.contains(Path::new("README.md")) && packaged.contains(Path::new("docs/status.md")),
        "{packaged:?}"
    );
    let pages =
        packaged.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md"));
    let mut wrong = Vec::new();
    for page in pages {
        for link in links_of(&fs::read_to_string(top.join(page)).unwrap()) {
            let file = link.split_once('#').map_or(link.as_str(), |(file, _)| file);
            if !file.is_empty() && !packaged.contains(&beside(page, file)) {
                wrong.push(format!("{}: {link} is not in the package", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the package has below its directory of papers, by the names of the repository, which must
/// be the same.
fn packaged_papers(top: &Path) -> BTreeSet<PathBuf> {
    let manifest: toml::Table =
        toml::from_str(&fs::read_to_string(top.join("Cargo.toml")).unwrap()).unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let mut found = BTreeSet::new();
    for asset in assets {
        let (from, to) = (asset[0].as_str().unwrap(), asset[1].as_str().unwrap());
        let Some(place) = to.strip_prefix(PACKAGED) else { continue };
        for file in files_like(top, from) {
            let name = file.file_name().unwrap();
            assert_eq!(
                Path::new(place).join(name),
                file,
                "the package has the papers as the repository has them"
            );
            found.insert(file);
        }
    }
    found
}

/// The files that a pattern with one `*` in its last part names.
fn files_like(top: &Path, pattern: &str) -> Vec<PathBuf> {
    let (dir, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let Some((begin, end)) = name.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let names = fs::read_dir(top.join(dir))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with(begin) && name.ends_with(end))
        .map(|name| Path::new(dir).join(name))
        .collect()
}

/// Targets of links within the repository, outside of fenced blocks.
fn links_of(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let targets = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
        found.extend(targets.filter(|target| !target.contains("://")).map(str::to_owned));
    }
    found
}

/// Anchors as GitHub makes them.
fn headings_of(markdown: &str) -> BTreeSet<String> {
    let titles = markdown
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim());
    let anchor = |title: &str| {
        let kept = title.to_lowercase().replace(' ', "-");
        kept.chars().filter(|one| one.is_alphanumeric() || matches!(one, '-' | '_')).collect()
    };
    titles.map(anchor).collect()
}

/// The file that a link of a page names.
fn beside(page: &Path, link: &str) -> PathBuf {
    let mut target = page.parent().map(Path::to_path_buf).unwrap_or_default();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => assert!(target.pop(), "{link} leaves the repository"),
            Component::CurDir => {}
            other => target.push(other),
        }
    }
    target
}
