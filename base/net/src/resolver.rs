//! Names to addresses, under a reach: an address that lies further inside is not handed to the connection at all, so
//! there is no moment between the check and the use in which a name could change.

use std::collections::HashMap;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::Reach;

/// Names remembered at most; beyond that the memory starts afresh.
const NAMES_MAX: usize = 1024;

/// Resolves by the system, and drops what may not be reached.
#[derive(Debug)]
pub(crate) struct Resolver {
    reach: Reach,
    /// Proxies stand inside the house as a rule, whatever the request may reach.
    exempt: HashSet<String>,
    /// How far inside each name turned out to be: what its redirects may reach is decided by this.
    seen: Arc<Mutex<HashMap<String, Reach>>>,
}

/// A name that resolves only to addresses out of reach.
#[derive(Debug, thiserror::Error)]
#[error("{host} is at {address}, which this request may not reach")]
pub(crate) struct OutOfReach {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
}

impl Resolver {
    pub(crate) fn new(reach: Reach, exempt: HashSet<String>) -> Self {
        Self { reach, exempt, seen: Arc::default() }
    }

    /// How far inside a name was when it was last resolved; names that only a proxy has resolved count as public.
    pub(crate) fn reach_of(&self, host: &str) -> Reach {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&host.to_ascii_lowercase()).copied().unwrap_or(Reach::Public)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_ascii_lowercase();
        let reach = if self.exempt.contains(&host) { Reach::Local } else { self.reach };
        let seen = Arc::clone(&self.seen);
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let (within, outside): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| Reach::of(address.ip()) <= reach);
            if let (true, Some(first)) = (within.is_empty(), outside.first()) {
                return Err(OutOfReach { host, address: first.ip() }.into());
            }
            if let Some(furthest) = within.iter().map(|address| Reach::of(address.ip())).max() {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.len() >= NAMES_MAX {
                    seen.clear();
                }
                seen.insert(host, furthest);
            }
            let addresses: Addrs = Box::new(within.into_iter());
            Ok(addresses)
        })
    }
}
