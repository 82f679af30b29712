//! A loader that runs and has its menu: what it makes of an entry, and where it finds the names in
//! it.

use super::menu;
use super::menu::{Choice, Ipxe};
use crate::clients::fetch::{fetch, must};
use crate::clients::http::Http;
use crate::clients::tftp::Tftp;
use crate::clients::url::Url;
use crate::failure::Failure;
use crate::limits::CHAINED_SCRIPTS_MAX;
use crate::report::steps::Steps;
use ringboot_observe::events::Stage;
use ringboot_protocol::tftp::client::Behaviour;

/// A loader that runs and has its menu.
pub(crate) struct Loaded<'a> {
    pub(super) tftp: Tftp<'a>,
    pub(crate) http: Http<'a>,
    pub(super) behaviour: Behaviour,
    pub(super) language: Language,
    /// The name or URL under which the menu was found.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A menu that one can come back to.
pub(crate) struct Home {
    at: Option<Url>,
    name: String,
    text: String,
}

/// How a loader reads its menu and finds the names in it.
pub(super) enum Language {
    Pxelinux {
        folder: String,
    },
    Grub {
        known: Vec<(String, String)>,
    },
    Ipxe {
        /// Where the script stands.
        at: Url,
        known: Vec<(String, String)>,
    },
}

impl Loaded<'_> {
    /// What a person could pick, the default first. A script without a menu has one nameless entry:
    /// itself.
    pub(crate) fn labels(&self) -> Vec<String> {
        let labels = match &self.language {
            Language::Pxelinux { .. } => menu::pxelinux_labels(&self.text),
            Language::Grub { .. } => menu::grub_labels(&self.text),
            Language::Ipxe { .. } => menu::ipxe_labels(&self.text),
        };
        let is_bare = labels.is_empty() && matches!(self.language, Language::Ipxe { .. });
        if is_bare { vec![String::new()] } else { labels }
    }

    /// Where the menu was found, to come back to after an entry has led elsewhere.
    pub(crate) fn home(&self) -> Home {
        let at = match &self.language {
            Language::Ipxe { at, .. } => Some(at.clone()),
            Language::Pxelinux { .. } | Language::Grub { .. } => None,
        };
        Home { at, name: self.name.clone(), text: self.text.clone() }
    }

    pub(crate) fn go_home(&mut self, home: &Home) {
        if let (Language::Ipxe { at, .. }, Some(home)) = (&mut self.language, &home.at) {
            at.clone_from(home);
        }
        self.name.clone_from(&home.name);
        self.text.clone_from(&home.text);
    }

    /// The entry with this label; for iPXE by way of the scripts that the first one leads to.
    pub(crate) async fn pick(&mut self, label: &str) -> Result<Choice, Failure> {
        let none = || Failure::NoEntry(label.to_owned());
        match &self.language {
            Language::Pxelinux { .. } => menu::pxelinux(&self.text, label).choice.ok_or_else(none),
            Language::Grub { known } => {
                menu::grub(&self.text, label, &borrowed(known)).ok_or_else(none)
            }
            Language::Ipxe { .. } => self.run_script(label).await,
        }
    }

    async fn run_script(&mut self, label: &str) -> Result<Choice, Failure> {
        for _ in 0..CHAINED_SCRIPTS_MAX {
            let Language::Ipxe { at, known } = &mut self.language else { break };
            match menu::ipxe(&self.text, label, &borrowed(known)) {
                None => return Err(Failure::NoEntry(label.to_owned())),
                Some(Ipxe::Boot(choice)) => return Ok(choice),
                Some(Ipxe::Chain(next)) => {
                    *at = at.join(&next).ok_or(Failure::BadUrl(next))?;
                    let text = fetch(&self.tftp, &self.behaviour, &mut self.http, at, true).await?;
                    self.name = at.to_string();
                    self.text = String::from_utf8_lossy(&text).into_owned();
                }
            }
        }
        Err(Failure::NoMenu)
    }

    /// The kernel and every initial disk, from where the menu says they are.
    pub(super) async fn images(
        &mut self,
        choice: Choice,
        steps: &mut Steps,
    ) -> Result<(), Failure> {
        let initrds = choice.initrds.into_iter().map(|name| (name, Stage::Initrd));
        for (name, stage) in std::iter::once((choice.kernel, Stage::Kernel)).chain(initrds) {
            steps.enter(stage);
            self.fetch(&name).await?;
        }
        Ok(())
    }

    /// One file of an entry.
    pub(crate) async fn fetch(&mut self, name: &str) -> Result<(), Failure> {
        let place = match &self.language {
            Language::Pxelinux { folder } => Place::of(name, folder),
            Language::Grub { .. } => Place::of_grub(name),
            Language::Ipxe { at, .. } => at.join(name).map(Place::Url),
        };
        match place.ok_or_else(|| Failure::BadUrl(name.to_owned()))? {
            Place::Tftp(path) => must(&self.tftp, &self.behaviour, &path).await,
            Place::Url(url) => {
                fetch(&self.tftp, &self.behaviour, &mut self.http, &url, false).await.map(drop)
            }
        }
    }
}

fn borrowed(known: &[(String, String)]) -> Vec<(&str, &str)> {
    known.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Where a loader finds a name of its menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tftp(String),
    Url(Url),
}

impl Place {
    /// PXELINUX: a URL, or a path beside the loader.
    pub(super) fn of(name: &str, folder: &str) -> Option<Self> {
        if name.contains("://") {
            Url::parse(name).map(Self::Url)
        } else {
            Some(Self::Tftp(under(folder, name)))
        }
    }

    /// GRUB: `(http,address:port)/path`, `(tftp,address)/path`, or a path on the TFTP server that
    /// GRUB came from.
    fn of_grub(name: &str) -> Option<Self> {
        let Some((device, path)) = name.strip_prefix('(').and_then(|rest| rest.split_once(')'))
        else {
            return Some(Self::Tftp(name.to_owned()));
        };
        match device.split_once(',') {
            Some(("http", server)) => Url::parse(&format!("http://{server}{path}")).map(Self::Url),
            Some(("tftp", _)) => Some(Self::Tftp(path.to_owned())),
            _ if device == "tftp" => Some(Self::Tftp(path.to_owned())),
            _ => None,
        }
    }
}

/// A name of PXELINUX: from the root with a leading slash or `::` (T-62), else beside the loader.
pub(super) fn under(folder: &str, name: &str) -> String {
    match name.strip_prefix("::") {
        Some(path) => path.to_owned(),
        None if name.starts_with('/') => name.to_owned(),
        None => format!("{folder}{name}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn b2_b9_names_of_a_menu_lead_to_tftp_or_http() {
        assert_eq!(Place::of("linux", "a/"), Some(Place::Tftp("a/linux".to_owned())));
        assert_eq!(Place::of("::linux", "a/"), Some(Place::Tftp("linux".to_owned())));
        assert_eq!(Place::of("/linux", "a/"), Some(Place::Tftp("/linux".to_owned())));
        let url = Url::parse("http://127.0.0.1:8080/k").unwrap();
        assert_eq!(Place::of("http://127.0.0.1:8080/k", ""), Some(Place::Url(url.clone())));
        assert_eq!(Place::of_grub("(http,127.0.0.1:8080)/k"), Some(Place::Url(url)));
        assert_eq!(Place::of_grub("(tftp,127.0.0.1)/k"), Some(Place::Tftp("/k".to_owned())));
        assert_eq!(Place::of_grub("/k"), Some(Place::Tftp("/k".to_owned())));
        assert_eq!(Place::of_grub("(hd0)/k"), None);
    }
}
