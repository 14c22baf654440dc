//! Which addresses a hook may be at. An authority chooses the endpoint, so without this it could have the gateway post to
//! whatever the gateway can reach: its own machine, the cloud's metadata service, systems of the operator's network.
//!
//! Allowed is what is reachable from everywhere (IANA's special-purpose registries, RFC 6890 and what updates it), and
//! the networks that the operator names. An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4, Teredo) is never
//! allowed by itself: it would be a way around the list.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use crate::config::Network;

/// IPv4 that is not reachable from everywhere, or is not one system.
const SPECIAL_V4: [&str; 16] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255",
];
/// IPv6 is reachable from everywhere within this network,
const GLOBAL_V6: &str = "2000::/3";
/// but for what IANA keeps of it for protocols, documentation and addresses that hold an IPv4 one.
const SPECIAL_V6: [&str; 4] = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];
/// This machine; for the sandbox.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// Asks the DNS; port 0 in the answers.
pub type NameService = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// The system's own.
pub fn system_names() -> NameService {
    Arc::new(|host| Ok((host, 0).to_socket_addrs()?.collect()))
}

/// Where hooks may be.
#[derive(Clone, Debug)]
pub struct Targets {
    /// Plain HTTP too (sandbox).
    pub plain: bool,
    allowed: Vec<Network>,
}

impl Targets {
    /// HTTPS, to what is reachable from everywhere and to `allowed`.
    pub fn service(allowed: &[Network]) -> Self {
        Self { plain: false, allowed: allowed.to_vec() }
    }

    /// Plain HTTP and this machine too.
    pub fn sandbox(allowed: &[Network]) -> Self {
        let this_machine = LOOPBACK.iter().filter_map(|network| network.parse().ok());
        Self { plain: true, allowed: this_machine.chain(allowed.iter().copied()).collect() }
    }

    /// Whether an address may be connected to.
    pub fn may_be(&self, address: IpAddr) -> bool {
        self.allowed.iter().any(|network| network.contains(address)) || is_global(address)
    }
}

fn is_global(address: IpAddr) -> bool {
    let within = |network: &&str| network.parse().is_ok_and(|network: Network| network.contains(address));
    match address {
        IpAddr::V4(_) => !SPECIAL_V4.iter().any(within),
        IpAddr::V6(_) => within(&GLOBAL_V6) && !SPECIAL_V6.iter().any(within),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_be(targets: &Targets, address: &str) -> bool {
        targets.may_be(address.parse().unwrap())
    }

    #[test]
    fn the_tables_are_networks() {
        for network in SPECIAL_V4.iter().chain(&SPECIAL_V6).chain(&LOOPBACK).chain([&GLOBAL_V6]) {
            assert!(network.parse::<Network>().is_ok(), "{network}");
        }
    }

    #[test]
    fn only_what_is_reachable_from_everywhere_is_a_target() {
        let targets = Targets::service(&[]);
        for good in ["8.8.8.8", "51.140.1.1", "2a00:1450:4009::200e", "2606:4700::1111", "100.128.0.1", "172.32.0.1"] {
            assert!(may_be(&targets, good), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::8.8.8.8",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!may_be(&targets, bad), "{bad}");
        }
    }

    #[test]
    fn the_operator_may_allow_networks_and_the_sandbox_this_machine() {
        let nhs = Targets::service(&["10.20.0.0/16".parse().unwrap(), "fd12::/16".parse().unwrap()]);
        assert!(may_be(&nhs, "10.20.3.4") && may_be(&nhs, "fd12::1") && may_be(&nhs, "8.8.8.8"));
        assert!(!may_be(&nhs, "10.21.0.1") && !may_be(&nhs, "127.0.0.1") && !may_be(&nhs, "::ffff:10.20.3.4"));
        let sandbox = Targets::sandbox(&[]);
        assert!(may_be(&sandbox, "127.0.0.1") && may_be(&sandbox, "::1"));
        assert!(!may_be(&sandbox, "169.254.169.254") && !may_be(&sandbox, "10.0.0.1") && !may_be(&sandbox, "0.0.0.0"));
    }
}
