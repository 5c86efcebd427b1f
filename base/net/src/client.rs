//! The client: checks every hop of a request before it is made, and follows redirects itself, because each hop is a
//! new decision: is the host allowed, is the connection encrypted, how far inside may it lead, may the token go along.
//!
//! One lane (a connection pool with its resolver) for each [`Reach`], made when first needed, so that a connection
//! opened with a wide reach is never reused by a request with a narrow one.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, COOKIE, LOCATION};
use reqwest::{Certificate, NoProxy, Proxy, StatusCode, redirect};
use url::{Host, Url};

use crate::address::Reach;
use crate::error::{NetError, root_cause};
use crate::request::{Method, Request};
use crate::resolver::{OutOfReach, Resolver};
use crate::response::Response;
use crate::settings::{Proxies, Settings};

/// The outbound HTTP client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    /// Only this machine, without TLS and proxies: for talking to a server of our own.
    loopback: bool,
    proxy_hosts: HashSet<String>,
    lanes: [OnceLock<Lane>; 3],
}

struct Lane {
    client: reqwest::Client,
    resolver: Arc<Resolver>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Client {
    /// A client under these settings. Certificates and connections are set up when first needed.
    pub fn new(settings: Settings) -> Result<Self, NetError> {
        let proxy_hosts = proxy_hosts(&settings.proxies)?;
        Ok(Self {
            inner: Arc::new(Inner { settings, loopback: false, proxy_hosts, lanes: Default::default() }),
        })
    }

    /// A client that reaches this machine and nothing else, whatever the settings say: the offline switch is about
    /// leaving the machine, and this one cannot.
    #[must_use]
    pub fn loopback() -> Self {
        let inner = Inner {
            settings: Settings::default(),
            loopback: true,
            proxy_hosts: HashSet::new(),
            lanes: Default::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Sends a request and waits for the head of the answer; its body is then read from the [`Response`].
    /// Redirects are followed for GET and HEAD.
    pub async fn send(&self, request: Request) -> Result<Response, NetError> {
        let first = shown(&request.url);
        let mut hop = request;
        hop.url.set_fragment(None);
        if self.inner.loopback {
            hop.reach = Reach::Local;
        }
        for _ in 0..=self.inner.settings.redirects_max {
            let host = self.check(&hop)?;
            let lane = self.lane(hop.reach)?;
            let response = self.execute(lane, &hop, &host).await?;
            if !is_redirect(response.status()) {
                let idle = self.idle_timeout(&hop);
                return Ok(Response::new(response, hop.url, host, idle));
            }
            let inside = match hop.url.host() {
                Some(Host::Ipv4(address)) => Reach::of(address.into()),
                Some(Host::Ipv6(address)) => Reach::of(address.into()),
                _ => lane.resolver.reach_of(&host),
            };
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            hop = next_hop(hop, location, inside)?;
        }
        Err(NetError::TooManyRedirects { url: first, limit: self.inner.settings.redirects_max })
    }

    fn idle_timeout(&self, hop: &Request) -> Duration {
        hop.idle_timeout.unwrap_or(self.inner.settings.idle_timeout)
    }

    /// Everything that can be refused before a connection is made. Returns the host, for messages.
    fn check(&self, hop: &Request) -> Result<String, NetError> {
        let address = |reason| NetError::Address { url: shown(&hop.url), reason };
        let encrypted = match hop.url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(address("only http and https are spoken")),
        };
        let parsed = hop.url.host().ok_or_else(|| address("it names no host"))?;
        if !hop.url.username().is_empty() || hop.url.password().is_some() {
            return Err(address("it carries a user name or password"));
        }
        let host = parsed.to_string();
        let literal = match parsed {
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
            Host::Domain(_) => None,
        };
        let this_machine =
            literal.map_or(host == "localhost", |ip: std::net::IpAddr| ip.to_canonical().is_loopback());
        if self.inner.loopback {
            return if this_machine { Ok(host) } else { Err(NetError::HostRefused { host }) };
        }
        if self.inner.settings.offline {
            return Err(NetError::Offline { host });
        }
        if !self.inner.settings.hosts.allow(host.trim_matches(['[', ']'])) {
            return Err(NetError::HostRefused { host });
        }
        if let Some(address) = literal.filter(|&ip| Reach::of(ip) > hop.reach) {
            return Err(NetError::AddressRefused { host, address });
        }
        if !encrypted && !hop.plain && !this_machine {
            return Err(NetError::PlainHttp { host });
        }
        Ok(host)
    }

    async fn execute(&self, lane: &Lane, hop: &Request, host: &str) -> Result<reqwest::Response, NetError> {
        let method = match hop.method {
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
            Method::Post => reqwest::Method::POST,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request = lane.client.request(method, hop.url.clone()).headers(hop.headers.clone());
        if let Some(body) = &hop.body {
            request = request.body(body.clone());
        }
        let waited = self.idle_timeout(hop) + self.inner.settings.connect_timeout;
        match tokio::time::timeout(waited, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.explain(error, host)),
            Err(_) => Err(NetError::Timeout { host: host.to_owned(), waited }),
        }
    }

    fn explain(&self, error: reqwest::Error, host: &str) -> NetError {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if let Some(refused) = inner.downcast_ref::<OutOfReach>() {
                return NetError::AddressRefused { host: refused.host.clone(), address: refused.address };
            }
            cause = inner.source();
        }
        let host = host.to_owned();
        if error.is_timeout() {
            return NetError::Timeout { host, waited: self.inner.settings.connect_timeout };
        }
        let reason = root_cause(&error);
        let connecting = error.is_connect();
        let source = Box::new(error.without_url());
        if connecting {
            NetError::Connect { host, reason, source }
        } else {
            NetError::Broken { host, reason, source }
        }
    }

    fn lane(&self, reach: Reach) -> Result<&Lane, NetError> {
        let slot = &self.inner.lanes[reach as usize];
        if let Some(lane) = slot.get() {
            return Ok(lane);
        }
        // Two tasks may both come here; the second lane is dropped unused.
        let lane = self.build(reach)?;
        Ok(slot.get_or_init(|| lane))
    }

    fn build(&self, reach: Reach) -> Result<Lane, NetError> {
        // An error only says that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = &self.inner.settings;
        let resolver = Arc::new(Resolver::new(reach, self.inner.proxy_hosts.clone()));
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .user_agent(&settings.user_agent)
            .connect_timeout(settings.connect_timeout)
            .dns_resolver(Arc::clone(&resolver));
        if self.inner.loopback {
            builder = builder.tls_certs_only([]);
        } else {
            for proxy in proxies(&settings.proxies)? {
                builder = builder.proxy(proxy);
            }
            if let Some(path) = &settings.ca_file {
                let unusable = |reason: String| NetError::CaFile { path: path.clone(), reason };
                let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
                let roots =
                    Certificate::from_pem_bundle(&pem).map_err(|error| unusable(root_cause(&error)))?;
                if roots.is_empty() {
                    return Err(unusable("it holds no certificate in PEM form".to_owned()));
                }
                builder = builder.tls_certs_merge(roots);
            }
        }
        let client = builder.build().map_err(|error| NetError::Setup { reason: root_cause(&error) })?;
        Ok(Lane { client, resolver })
    }
}

/// The request that a redirect leads to.
fn next_hop(hop: Request, location: Option<&str>, inside: Reach) -> Result<Request, NetError> {
    let from = shown(&hop.url);
    if !matches!(hop.method, Method::Get | Method::Head) {
        return Err(NetError::Redirect { from, reason: "only plain reads are repeated elsewhere" });
    }
    let Some(location) = location else {
        return Err(NetError::Redirect { from, reason: "it does not say where to" });
    };
    let Ok(mut url) = hop.url.join(location) else {
        return Err(NetError::Redirect { from, reason: "its target is not a valid address" });
    };
    url.set_fragment(None);
    if hop.url.scheme() == "https" && url.scheme() == "http" {
        return Err(NetError::Downgrade { from, to: shown(&url) });
    }
    let mut next = hop;
    if next.url.origin() != url.origin() {
        next.headers.remove(AUTHORIZATION);
        next.headers.remove(COOKIE);
    }
    // A public host has no business sending us inside.
    next.reach = next.reach.min(inside);
    next.url = url;
    Ok(next)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// An address for messages: without query, fragment and user.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for addresses that cannot have a user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

fn proxies(settings: &Proxies) -> Result<Vec<Proxy>, NetError> {
    let direct = || settings.direct.as_deref().and_then(NoProxy::from_string);
    let mut proxies = Vec::new();
    if let Some(address) = &settings.http {
        let proxy = Proxy::http(address).map_err(|error| proxy_error("http_proxy", &error))?;
        proxies.push(proxy.no_proxy(direct()));
    }
    if let Some(address) = &settings.https {
        let proxy = Proxy::https(address).map_err(|error| proxy_error("https_proxy", &error))?;
        proxies.push(proxy.no_proxy(direct()));
    }
    Ok(proxies)
}

fn proxy_hosts(settings: &Proxies) -> Result<HashSet<String>, NetError> {
    let mut hosts = HashSet::new();
    for (name, address) in [("http_proxy", &settings.http), ("https_proxy", &settings.https)] {
        let Some(address) = address else { continue };
        // As reqwest does: an address without a scheme is an HTTP proxy.
        let parsed = if address.contains("://") {
            Url::parse(address)
        } else {
            Url::parse(&format!("http://{address}"))
        };
        let url = parsed.map_err(|error| NetError::Proxy { name, reason: error.to_string() })?;
        hosts.extend(url.host_str().map(str::to_ascii_lowercase));
    }
    Ok(hosts)
}

fn proxy_error(name: &'static str, error: &reqwest::Error) -> NetError {
    NetError::Proxy { name, reason: root_cause(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(settings: Settings) -> Client {
        Client::new(settings).unwrap()
    }

    fn request(url: &str) -> Request {
        Request::get(Url::parse(url).unwrap())
    }

    #[test]
    fn a_request_is_refused_before_any_connection() {
        let check = |url: &str, reach: Reach, expected: &str| {
            let found = client(Settings::default()).check(&request(url).reach(reach));
            let found = found.map_or_else(|error| format!("{error:?}"), |_| "allowed".to_owned());
            assert!(found.starts_with(expected), "{url}: {found}");
        };
        check("https://example.org/x", Reach::Public, "allowed");
        check("http://example.org/x", Reach::Public, "PlainHttp");
        check("ftp://example.org/x", Reach::Public, "Address");
        check("file:///etc/passwd", Reach::Local, "Address");
        check("https://user@example.org/", Reach::Public, "Address");
        check("https://example.org:x@127.0.0.1/", Reach::Local, "Address");
        // The spellings of 127.0.0.1 and of a cloud's metadata address.
        for spelled in
            ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "[::ffff:7f00:1]"]
        {
            check(&format!("https://{spelled}/"), Reach::Private, "AddressRefused");
            check(&format!("http://{spelled}/"), Reach::Local, "allowed");
        }
        check("https://169.254.169.254/latest", Reach::Private, "AddressRefused");
        check("https://10.1.2.3/", Reach::Public, "AddressRefused");
        check("https://10.1.2.3/", Reach::Private, "allowed");
    }

    #[test]
    fn offline_and_the_list_of_hosts_come_first() {
        let offline = client(Settings { offline: true, ..Settings::default() });
        assert!(matches!(offline.check(&request("https://example.org/")), Err(NetError::Offline { .. })));
        assert!(matches!(offline.check(&request("http://127.0.0.1/")), Err(NetError::Offline { .. })));
        let hosts = crate::Hosts::Only(vec!["example.org".into()]);
        let narrow = client(Settings { hosts, ..Settings::default() });
        assert!(narrow.check(&request("https://example.org/")).is_ok());
        assert!(matches!(narrow.check(&request("https://example.com/")), Err(NetError::HostRefused { .. })));
    }

    #[test]
    fn the_loopback_client_reaches_nothing_else() {
        let client = Client::loopback();
        for url in ["http://127.0.0.1:11434/", "http://localhost:1/", "http://[::1]:1/"] {
            assert!(client.check(&request(url)).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.1/", "https://example.org/", "http://localhost.example.org/"] {
            assert!(matches!(client.check(&request(url)), Err(NetError::HostRefused { .. })), "{url}");
        }
    }

    #[test]
    fn a_redirect_loses_what_must_not_go_along() {
        let start = || request("https://a.test/x?sig=secret").bearer("token").unwrap().reach(Reach::Local);
        let same = next_hop(start(), Some("/y"), Reach::Private).unwrap();
        assert_eq!((same.url.as_str(), same.reach), ("https://a.test/y", Reach::Private));
        assert!(same.headers.contains_key(AUTHORIZATION));
        for elsewhere in ["https://b.test/y", "https://a.test:8443/y", "//b.test/y"] {
            let next = next_hop(start(), Some(elsewhere), Reach::Public).unwrap();
            assert!(!next.headers.contains_key(AUTHORIZATION), "{elsewhere}");
            assert_eq!(next.reach, Reach::Public);
        }
        assert!(matches!(
            next_hop(start(), Some("http://a.test/y"), Reach::Public),
            Err(NetError::Downgrade { .. })
        ));
        assert!(matches!(next_hop(start(), None, Reach::Public), Err(NetError::Redirect { .. })));
        assert!(matches!(
            next_hop(start(), Some("https://[bad"), Reach::Public),
            Err(NetError::Redirect { .. })
        ));
        let post = Request::post_json(Url::parse("https://a.test/").unwrap(), "{}");
        assert!(matches!(next_hop(post, Some("/y"), Reach::Public), Err(NetError::Redirect { .. })));
    }

    #[test]
    fn messages_carry_no_secret() {
        let url = Url::parse("https://user:word@a.test/x?sig=secret#frag").unwrap();
        assert_eq!(shown(&url), "https://a.test/x");
    }
}
