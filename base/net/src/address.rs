//! How far inside an address lies, and how far a request may reach.
//!
//! This is the guard against server-side request forgery: a request that somebody else caused, or one that a public
//! host redirects, must not end at this machine's own services or at a cloud's metadata address.
//!
//! Ranges: IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far inside a request may reach; each step includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Reach {
    /// Addresses of the open internet only.
    Public,
    /// Also the house's own networks (10/8, 172.16/12, 192.168/16, 100.64/10, fc00::/7).
    #[default]
    Private,
    /// Everything, this machine and link-local (cloud metadata) included.
    Local,
}

impl Reach {
    /// The least reach with which this address may be contacted.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        match (a, b, c) {
            (10, ..) | (192, 168, _) => Self::Private,
            (172, 16..=31, _) | (100, 64..=127, _) => Self::Private,
            // "This network", loopback, link-local, protocol assignments, benchmarks, documentation, multicast,
            // reserved and broadcast.
            (0 | 127, ..) | (169, 254, _) | (192, 0, 0 | 2) | (198, 18 | 19, _) => Self::Local,
            (198, 51, 100) | (203, 0, 113) | (224..=255, ..) => Self::Local,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if let Some(inner) = embedded_v4(address) {
            return Self::of_v4(inner);
        }
        let first = address.segments()[0];
        match first {
            0xfc00..=0xfdff => Self::Private,
            // Global unicast, less documentation and Teredo (which hides an IPv4 address we do not judge).
            0x2000..=0x3fff => match address.segments() {
                [0x2001, 0x0db8 | 0x0000, ..] | [0x3fff, ..] => Self::Local,
                _ => Self::Public,
            },
            // Unspecified, loopback, link-local, site-local, multicast and whatever is not assigned.
            _ => Self::Local,
        }
    }
}

/// The IPv4 address inside an IPv6 one: mapped (::ffff:0:0/96), compatible (::/96), NAT64 (64:ff9b::/96), 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: Reach) {
        assert_eq!(Reach::of(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn addresses_are_as_far_inside_as_the_registries_say() {
        for public in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "2606:4700::1",
            "64:ff9b::1.1.1.1",
        ] {
            check(public, Reach::Public);
        }
        for private in
            ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12::1"]
        {
            check(private, Reach::Private);
        }
        for local in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
        ] {
            check(local, Reach::Local);
        }
    }

    #[test]
    fn an_address_inside_another_counts_as_itself() {
        check("::ffff:127.0.0.1", Reach::Local);
        check("::ffff:169.254.169.254", Reach::Local);
        check("::ffff:10.0.0.1", Reach::Private);
        check("::7f00:1", Reach::Local);
        check("64:ff9b::a9fe:a9fe", Reach::Local);
        check("2002:7f00:1::1", Reach::Local);
        check("2002:a00:1::1", Reach::Private);
    }
}
