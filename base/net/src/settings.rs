//! What the client may do and how, as plain values: the binary reads settings and environment and fills them in.

use std::path::PathBuf;
use std::time::Duration;

/// How the house reaches out.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Nothing leaves at all; every request fails with [`NetError::Offline`](crate::NetError::Offline).
    pub offline: bool,
    /// The hosts that may be contacted, redirects included.
    pub hosts: Hosts,
    pub proxies: Proxies,
    /// A PEM file of certificate authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Longest time to set up a connection.
    pub connect_timeout: Duration,
    /// Longest silence while an answer is under way.
    pub idle_timeout: Duration,
    pub redirects_max: usize,
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            offline: false,
            hosts: Hosts::Any,
            proxies: Proxies::default(),
            ca_file: None,
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            redirects_max: 8,
            user_agent: concat!("ondol/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Which hosts may be contacted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Hosts {
    #[default]
    Any,
    /// These only: a name (`example.org`) or a name and all below it (`*.example.org`). Ports do not matter.
    Only(Vec<String>),
}

impl Hosts {
    /// Whether this host may be contacted. Names compare without case and without a trailing dot.
    #[must_use]
    pub fn allow(&self, host: &str) -> bool {
        let Self::Only(patterns) = self else { return true };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        patterns.iter().any(|pattern| {
            let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
            match pattern.strip_prefix("*.") {
                Some(parent) => {
                    host == parent || host.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
                }
                None => host == pattern,
            }
        })
    }
}

/// Proxies by the scheme of the request, as the usual environment variables name them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    /// Hosts that are reached directly: names, `.suffixes`, addresses and networks, separated by commas.
    pub direct: Option<String>,
}

impl Proxies {
    /// Reads `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` through `lookup`, each also in capitals.
    #[must_use]
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            [name.to_owned(), name.to_ascii_uppercase()]
                .iter()
                .filter_map(|name| lookup(name))
                .map(|value| value.trim().to_owned())
                .find(|value| !value.is_empty())
        };
        let all = either("all_proxy");
        Self {
            http: either("http_proxy").or_else(|| all.clone()),
            https: either("https_proxy").or(all),
            direct: either("no_proxy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_hosts_are_whole_names() {
        let hosts = Hosts::Only(vec!["example.org".into(), "*.Models.example.".into()]);
        for (host, expected) in [
            ("example.org", true),
            ("EXAMPLE.org.", true),
            ("a.example.org", false),
            ("badexample.org", false),
            ("models.example", true),
            ("cdn.models.example", true),
            ("evilmodels.example", false),
            ("models.example.evil.test", false),
        ] {
            assert_eq!(hosts.allow(host), expected, "{host}");
        }
        assert!(Hosts::Any.allow("anything"));
        assert!(!Hosts::Only(Vec::new()).allow("anything"));
    }

    #[test]
    fn proxies_come_from_either_case_and_fall_back_to_all() {
        let check = |variables: &[(&str, &str)], expected: [Option<&str>; 3]| {
            let proxies = Proxies::from_variables(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            });
            let found = [proxies.http.as_deref(), proxies.https.as_deref(), proxies.direct.as_deref()];
            assert_eq!(found, expected, "{variables:?}");
        };
        check(&[], [None, None, None]);
        check(&[("HTTPS_PROXY", "http://p:1")], [None, Some("http://p:1"), None]);
        check(&[("https_proxy", "a"), ("HTTPS_PROXY", "b")], [None, Some("a"), None]);
        check(
            &[("all_proxy", "x"), ("http_proxy", "y"), ("NO_PROXY", "z")],
            [Some("y"), Some("x"), Some("z")],
        );
        check(&[("http_proxy", "  ")], [None, None, None]);
    }
}
