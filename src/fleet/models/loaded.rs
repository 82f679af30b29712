//! A running loader with its menu: how it reads an entry, and where it finds the names in it.

use super::menu;
use super::menu::{BootChoice, IpxeEnd};
use crate::clients::fetch::{fetch_required_file, fetch_url};
use crate::clients::http::HttpFetcher;
use crate::clients::tftp::TftpFetcher;
use crate::clients::url::Url;
use crate::failure::BootFailure;
use crate::limits::CHAINED_SCRIPTS_MAX;
use crate::report::steps::BootSteps;
use ringboot_observe::events::MachineStage;
use ringboot_protocol::tftp::client::ClientBehaviour;

/// A running loader with its menu.
pub(crate) struct RunningLoader<'a> {
    pub(super) tftp: TftpFetcher<'a>,
    pub(crate) http: HttpFetcher<'a>,
    pub(super) behaviour: ClientBehaviour,
    pub(super) language: MenuLanguage,
    /// The name or URL of the menu.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The saved place of a menu.
pub(crate) struct HomeMenu {
    at: Option<Url>,
    name: String,
    text: String,
}

/// How a loader reads its menu and finds the names in it.
pub(super) enum MenuLanguage {
    Pxelinux {
        folder: String,
    },
    Grub {
        known: Vec<(String, String)>,
    },
    Ipxe {
        /// The URL of the script.
        at: Url,
        known: Vec<(String, String)>,
    },
}

impl RunningLoader<'_> {
    /// The labels that a person can choose, the default first. A script without a menu has one
    /// nameless entry: itself.
    pub(crate) fn list_labels(&self) -> Vec<String> {
        let labels = match &self.language {
            MenuLanguage::Pxelinux { .. } => menu::list_pxelinux_labels(&self.text),
            MenuLanguage::Grub { .. } => menu::list_grub_labels(&self.text),
            MenuLanguage::Ipxe { .. } => menu::list_ipxe_labels(&self.text),
        };
        let is_bare = labels.is_empty() && matches!(self.language, MenuLanguage::Ipxe { .. });
        if is_bare { vec![String::new()] } else { labels }
    }

    /// The present menu, to return to after an entry has led elsewhere.
    pub(crate) fn home_menu(&self) -> HomeMenu {
        let at = match &self.language {
            MenuLanguage::Ipxe { at, .. } => Some(at.clone()),
            MenuLanguage::Pxelinux { .. } | MenuLanguage::Grub { .. } => None,
        };
        HomeMenu { at, name: self.name.clone(), text: self.text.clone() }
    }

    pub(crate) fn return_home(&mut self, home: &HomeMenu) {
        if let (MenuLanguage::Ipxe { at, .. }, Some(home)) = (&mut self.language, &home.at) {
            at.clone_from(home);
        }
        self.name.clone_from(&home.name);
        self.text.clone_from(&home.text);
    }

    /// The entry with this label; for iPXE through the scripts to which the first one leads.
    pub(crate) async fn pick_entry(&mut self, label: &str) -> Result<BootChoice, BootFailure> {
        let none = || BootFailure::NoEntry(label.to_owned());
        match &self.language {
            MenuLanguage::Pxelinux { .. } => {
                menu::read_pxelinux_entry(&self.text, label).choice.ok_or_else(none)
            }
            MenuLanguage::Grub { known } => {
                menu::read_grub_entry(&self.text, label, &borrow_variables(known)).ok_or_else(none)
            }
            MenuLanguage::Ipxe { .. } => self.run_script(label).await,
        }
    }

    async fn run_script(&mut self, label: &str) -> Result<BootChoice, BootFailure> {
        for _ in 0..CHAINED_SCRIPTS_MAX {
            let MenuLanguage::Ipxe { at, known } = &mut self.language else { break };
            match menu::run_ipxe_script(&self.text, label, &borrow_variables(known)) {
                None => return Err(BootFailure::NoEntry(label.to_owned())),
                Some(IpxeEnd::Boot(choice)) => return Ok(choice),
                Some(IpxeEnd::Chain(next)) => {
                    *at = at.join(&next).ok_or(BootFailure::BadUrl(next))?;
                    let text =
                        fetch_url(&self.tftp, &self.behaviour, &mut self.http, at, true).await?;
                    self.name = at.to_string();
                    self.text = String::from_utf8_lossy(&text).into_owned();
                }
            }
        }
        Err(BootFailure::NoMenu)
    }

    /// Fetches the kernel and every initrd from the places in the menu.
    pub(super) async fn fetch_images(
        &mut self,
        choice: BootChoice,
        steps: &mut BootSteps,
    ) -> Result<(), BootFailure> {
        let initrds = choice.initrds.into_iter().map(|name| (name, MachineStage::Initrd));
        for (name, stage) in std::iter::once((choice.kernel, MachineStage::Kernel)).chain(initrds) {
            steps.enter(stage);
            self.fetch(&name).await?;
        }
        Ok(())
    }

    /// Fetches one file of an entry.
    pub(crate) async fn fetch(&mut self, name: &str) -> Result<(), BootFailure> {
        let place = match &self.language {
            MenuLanguage::Pxelinux { folder } => MenuPlace::parse_pxelinux(name, folder),
            MenuLanguage::Grub { .. } => MenuPlace::parse_grub(name),
            MenuLanguage::Ipxe { at, .. } => at.join(name).map(MenuPlace::Url),
        };
        match place.ok_or_else(|| BootFailure::BadUrl(name.to_owned()))? {
            MenuPlace::Tftp(path) => fetch_required_file(&self.tftp, &self.behaviour, &path).await,
            MenuPlace::Url(url) => {
                fetch_url(&self.tftp, &self.behaviour, &mut self.http, &url, false).await.map(drop)
            }
        }
    }
}

fn borrow_variables(known: &[(String, String)]) -> Vec<(&str, &str)> {
    known.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The place of a name in a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MenuPlace {
    Tftp(String),
    Url(Url),
}

impl MenuPlace {
    /// PXELINUX: a URL, or a path beside the loader.
    pub(super) fn parse_pxelinux(name: &str, folder: &str) -> Option<Self> {
        if name.contains("://") {
            Url::parse(name).map(Self::Url)
        } else {
            Some(Self::Tftp(resolve_pxelinux_name(folder, name)))
        }
    }

    /// GRUB: `(http,address:port)/path`, `(tftp,address)/path`, or a path on GRUB's own TFTP
    /// server.
    fn parse_grub(name: &str) -> Option<Self> {
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
pub(super) fn resolve_pxelinux_name(folder: &str, name: &str) -> String {
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
        assert_eq!(
            MenuPlace::parse_pxelinux("linux", "a/"),
            Some(MenuPlace::Tftp("a/linux".to_owned()))
        );
        assert_eq!(
            MenuPlace::parse_pxelinux("::linux", "a/"),
            Some(MenuPlace::Tftp("linux".to_owned()))
        );
        assert_eq!(
            MenuPlace::parse_pxelinux("/linux", "a/"),
            Some(MenuPlace::Tftp("/linux".to_owned()))
        );
        let url = Url::parse("http://127.0.0.1:8080/k").unwrap();
        assert_eq!(
            MenuPlace::parse_pxelinux("http://127.0.0.1:8080/k", ""),
            Some(MenuPlace::Url(url.clone()))
        );
        assert_eq!(MenuPlace::parse_grub("(http,127.0.0.1:8080)/k"), Some(MenuPlace::Url(url)));
        assert_eq!(
            MenuPlace::parse_grub("(tftp,127.0.0.1)/k"),
            Some(MenuPlace::Tftp("/k".to_owned()))
        );
        assert_eq!(MenuPlace::parse_grub("/k"), Some(MenuPlace::Tftp("/k".to_owned())));
        assert_eq!(MenuPlace::parse_grub("(hd0)/k"), None);
    }
}
