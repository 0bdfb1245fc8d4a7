//! Where inputs may be: networks that none may be in, and folders that files must be in.
//!
//! Held against an input when it is created or changed, and again whenever it is handed to a shard. The shard holds every
//! address against the networks once more before it connects, because names change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use ipnet::IpNet;
use url::Url;

use crate::http::ApiError;
use crate::source_url::{file_path, host, listens};

/// What the operator allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// `source.deny_networks`.
    pub denied: Vec<IpNet>,
    /// `source.file_folders`; absolute.
    pub folders: Vec<PathBuf>,
}

/// Why an input may not be there: a sentence that stands behind the name of what leads there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its address is in a network that is denied.
    #[error("leads into {0}, which source.deny_networks forbids")]
    Network(IpNet),
    /// No file may be an input.
    #[error(
        "is a file, and none may be an input: start the server with source.file_folders (--source-file-folders) to allow \
         those of a folder"
    )]
    NoFolders,
    /// The file is in none of the folders.
    #[error("is not below a folder of source.file_folders")]
    OutsideFolders,
    /// It is not there, or no file.
    #[error("is no file that can be read")]
    NoFile,
}

impl Reach {
    /// The network that denies an address. An IPv4 address in the form of IPv6 is the same address, and nobody's own
    /// address (`0.0.0.0`) leads to this machine.
    pub fn denying(&self, ip: IpAddr) -> Option<IpNet> {
        let ip = ip.to_canonical();
        let itself = match ip {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            _ => None,
        };
        self.denied
            .iter()
            .find(|net| net.contains(&ip) || itself.is_some_and(|ip| net.contains(&ip)))
            .copied()
    }

    /// Holds the addresses of a name against the networks: one that is denied denies the name.
    ///
    /// # Errors
    /// [`Refusal::Network`].
    pub fn check_addresses(&self, addresses: &[SocketAddr]) -> Result<(), Refusal> {
        match addresses.iter().find_map(|address| self.denying(address.ip())) {
            Some(net) => Err(Refusal::Network(net)),
            None => Ok(()),
        }
    }

    /// Holds a URL's literal address against the networks. Gives the name that must be looked up first, where it has one.
    ///
    /// # Errors
    /// [`Refusal::Network`].
    pub fn check_host<'a>(&self, url: &'a Url) -> Result<Option<&'a str>, Refusal> {
        match host(url) {
            _ if self.denied.is_empty() => Ok(None),
            Some((_, Some(ip))) if ip.is_unspecified() && listens(url) => Ok(None),
            Some((_, Some(ip))) => self.denying(ip).map_or(Ok(None), |net| Err(Refusal::Network(net))),
            Some((name, None)) => Ok(Some(name)),
            None => Ok(None),
        }
    }

    /// The file of a URL by its true path, without `..` and symbolic links. Blocks for as long as the file system does.
    ///
    /// # Errors
    /// What is wrong with it, as far as an API's client may know: of what is outside the folders, not even whether it exists.
    pub fn check_file(&self, url: &Url) -> Result<PathBuf, Refusal> {
        let path = self.named_below_folders(url)?;
        let true_path = path.canonicalize().map_err(|_| Refusal::NoFile)?;
        if !self.is_below_folders(&true_path) {
            return Err(Refusal::OutsideFolders);
        }
        match true_path.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(true_path),
            _ => Err(Refusal::NoFile),
        }
    }

    /// The same when a stream starts: a file that is not there may come yet, if it would be below the folders.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check_file_again(&self, url: &Url) -> Result<PathBuf, Refusal> {
        match self.check_file(url) {
            Err(Refusal::NoFile) => {
                let path = self.named_below_folders(url)?;
                let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
                match parent {
                    Some(parent) if !self.is_below_folders(&parent) => Err(Refusal::OutsideFolders),
                    _ => Ok(path),
                }
            }
            checked => checked,
        }
    }

    /// The path as it is written, if it is below a folder as that is written, or as it is.
    fn named_below_folders(&self, url: &Url) -> Result<PathBuf, Refusal> {
        if self.folders.is_empty() {
            return Err(Refusal::NoFolders);
        }
        let path = file_path(url).ok_or(Refusal::NoFile)?;
        // Url has taken `..` out, but not where its slashes were written in percent.
        if path.components().any(|component| component == Component::ParentDir) {
            return Err(Refusal::OutsideFolders);
        }
        let is_named = self.folders.iter().any(|folder| path.starts_with(folder));
        match is_named || self.is_below_folders(&path) {
            true => Ok(path),
            false => Err(Refusal::OutsideFolders),
        }
    }

    /// A folder may itself be a symbolic link, or not be there yet.
    fn is_below_folders(&self, true_path: &Path) -> bool {
        let folders = self.folders.iter().filter_map(|folder| folder.canonicalize().ok());
        folders.into_iter().any(|folder| true_path.starts_with(folder))
    }
}

impl Refusal {
    /// As the API says it of a field.
    pub fn of_field(&self, field: &str) -> ApiError {
        let code = match self {
            Self::Network(_) => "denied_network",
            Self::NoFolders | Self::OutsideFolders => "file_not_allowed",
            Self::NoFile => "file_not_found",
        };
        ApiError::refused_input(code, field, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn denying(networks: &[&str]) -> Reach {
        Reach { denied: networks.iter().map(|net| net.parse().unwrap()).collect(), folders: Vec::new() }
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn an_address_is_denied_in_every_form() {
        let reach = denying(&["169.254.0.0/16", "127.0.0.0/8", "fd00::/8", "::1/128"]);
        let denied = |text: &str| reach.denying(text.parse().unwrap()).is_some();
        for ip in ["169.254.169.254", "::ffff:169.254.169.254", "0.0.0.0", "::ffff:0.0.0.0", "fd00::7", "::"]
        {
            assert!(denied(ip), "{ip}");
        }
        for ip in ["8.8.8.8", "::ffff:8.8.8.8", "fe80::1", "169.253.255.255"] {
            assert!(!denied(ip), "{ip}");
        }
        assert_eq!(Reach::default().denying("127.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn a_literal_is_checked_and_a_name_is_given_back() {
        let reach = denying(&["169.254.0.0/16", "127.0.0.0/8"]);
        let net = "169.254.0.0/16".parse().unwrap();
        for text in ["http://169.254.169.254/", "rtsp://[::ffff:169.254.169.254]/", "http://0xa9fea9fe/"] {
            assert_eq!(reach.check_host(&url(text)), Err(Refusal::Network(net)), "{text}");
        }
        // The resolver takes what the RTSP URL's parser leaves as a name.
        assert_eq!(reach.check_host(&url("rtsp://0x7f000001/")), Ok(Some("0x7f000001")));
        assert_eq!(reach.check_host(&url("rtsp://cam/")), Ok(Some("cam")));
        assert_eq!(reach.check_host(&url("udp://0.0.0.0:5000")), Ok(None));
        assert_eq!(reach.check_host(&url("srt://0.0.0.0:5000?mode=listener")), Ok(None));
        assert!(reach.check_host(&url("srt://0.0.0.0:5000")).is_err());
        assert_eq!(Reach::default().check_host(&url("rtsp://cam/")), Ok(None));
    }

    /// A folder `in` with a file and links, and a file beside it.
    fn folders() -> (tempfile::TempDir, Reach) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("in/deep")).unwrap();
        std::fs::create_dir(root.join("inside")).unwrap();
        for file in ["in/a b.mp4", "in/deep/c.mp4", "out.mp4", "inside/d.mp4"] {
            std::fs::write(root.join(file), "x").unwrap();
        }
        symlink(root.join("out.mp4"), root.join("in/link.mp4")).unwrap();
        symlink(&root, root.join("in/up")).unwrap();
        symlink(root.join("in/deep/c.mp4"), root.join("in/within.mp4")).unwrap();
        symlink(root.join("in"), root.join("alias")).unwrap();
        let reach = Reach { denied: Vec::new(), folders: vec![root.join("alias")] };
        (directory, reach)
    }

    fn check(reach: &Reach, root: &Path, rest: &str) -> Result<PathBuf, Refusal> {
        reach.check_file(&url(&format!("file://{}/{rest}", root.canonicalize().unwrap().display())))
    }

    #[test]
    fn only_what_is_truly_below_a_folder_is_read() {
        let (directory, reach) = folders();
        let root = directory.path();
        let check = |rest: &str| check(&reach, root, rest);
        let truth = |rest: &str| Ok(root.canonicalize().unwrap().join(rest));
        assert_eq!(check("alias/a%20b.mp4"), truth("in/a b.mp4"));
        assert_eq!(check("in/a%20b.mp4"), truth("in/a b.mp4"));
        assert_eq!(check("in/within.mp4"), truth("in/deep/c.mp4"));
        for outside in [
            "out.mp4",
            "nothing.mp4",
            "inside/d.mp4",
            "in/link.mp4",
            "in/up/out.mp4",
            "in/../out.mp4",
            "in/%2e%2e/out.mp4",
            "in/.%2E/%2e./etc/passwd",
        ] {
            assert_eq!(check(outside), Err(Refusal::OutsideFolders), "{outside}");
        }
        for none in ["in/nothing.mp4", "in/deep", "in", "in/a%20b.mp4/x"] {
            assert_eq!(check(none), Err(Refusal::NoFile), "{none}");
        }
        // A slash that is written in percent is one to the file system.
        assert_eq!(check("in%2f..%2fout.mp4"), Err(Refusal::OutsideFolders));
        assert_eq!(Reach::default().check_file(&url("file:///x")), Err(Refusal::NoFolders));
    }

    #[test]
    fn a_file_may_come_later_but_not_elsewhere() {
        let (directory, reach) = folders();
        let root = directory.path().canonicalize().unwrap();
        let again = |rest: &str| reach.check_file_again(&url(&format!("file://{}/{rest}", root.display())));
        assert_eq!(again("in/later.mp4"), Ok(root.join("in/later.mp4")));
        assert_eq!(again("in/within.mp4"), Ok(root.join("in/deep/c.mp4")));
        assert_eq!(again("in/up/later.mp4"), Err(Refusal::OutsideFolders));
        assert_eq!(again("in/link.mp4"), Err(Refusal::OutsideFolders));
        let away = Reach { denied: Vec::new(), folders: vec!["/not/mounted".into()] };
        let url = url("file:///not/mounted/x.mp4");
        assert_eq!(away.check_file_again(&url), Ok("/not/mounted/x.mp4".into()));
        assert_eq!(away.check_file(&url), Err(Refusal::NoFile));
    }
}
