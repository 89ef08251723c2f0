//! Network namespaces and what joins them: bridges in one namespace, `fabric`, and pairs of devices from there to all others.

use crate::Command;

/// The namespace of bridges, which also routes between the networks that it has an address in.
pub(super) const FABRIC: &str = "fabric";

/// Networks under construction: lines for `ip -batch`, run all at once.
#[derive(Debug, Default)]
pub(super) struct Fabric {
    namespaces: Vec<String>,
    /// Lines per namespace; the empty name is the bench's own.
    lines: Vec<(String, String)>,
}

impl Fabric {
    /// With the namespace of bridges.
    pub(super) fn new() -> Self {
        let mut fabric = Self::default();
        fabric.namespace(FABRIC);
        fabric
    }

    /// A new namespace.
    pub(super) fn namespace(&mut self, name: &str) {
        self.namespaces.push(name.to_owned());
        self.line(name, "link set lo up");
    }

    /// A new network; with a gateway's addresses it is joined to all others that have one.
    pub(super) fn network(&mut self, name: &str, gateway: &[&str]) {
        self.line(FABRIC, &format!("link add name {name} type bridge"));
        self.line(FABRIC, &format!("link set {name} up"));
        for address in gateway {
            self.address(FABRIC, name, address);
        }
    }

    /// Joins a namespace to a network by a device of this name, with addresses such as `10.0.0.4/24`.
    pub(super) fn join(&mut self, namespace: &str, device: &str, network: &str, addresses: &[&str]) {
        // Device names are short; numbers are unique.
        let port = format!("port{}", self.lines.len());
        self.line("", &format!("link add {port} netns {FABRIC} type veth peer name {device} netns {namespace}"));
        self.line(FABRIC, &format!("link set {port} master {network} up"));
        self.line(namespace, &format!("link set {device} up"));
        for address in addresses {
            self.address(namespace, device, address);
        }
    }

    /// A further address, without waiting to see whether somebody else has it.
    fn address(&mut self, namespace: &str, device: &str, address: &str) {
        let at_once = if address.contains(':') { " nodad" } else { "" };
        self.line(namespace, &format!("addr add {address} dev {device}{at_once}"));
    }

    /// A further line for `ip` in a namespace.
    pub(super) fn line(&mut self, namespace: &str, line: &str) {
        self.lines.push((namespace.to_owned(), line.to_owned()));
    }

    /// Makes it all.
    pub(super) fn build(self) {
        for namespace in &self.namespaces {
            ip(&["netns", "add", namespace]);
            // A path may lead back by another device than the one a packet came by.
            set(namespace, "net/ipv4/conf/all/rp_filter", "0");
            set(namespace, "net/ipv4/conf/default/rp_filter", "0");
        }
        for forwarding in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            set(FABRIC, forwarding, "1");
        }
        // Lines of one namespace after the other's in their order: devices first, as they were asked for.
        for chunk in self.lines.chunk_by(|left, right| left.0 == right.0) {
            let namespace = &chunk.first().expect("a chunk is not empty").0;
            let lines: String = chunk.iter().flat_map(|(_, line)| [line, "\n"]).map(String::from).collect();
            let command = Command::new("ip");
            let command = if namespace.is_empty() { command } else { command.args(["-n", namespace]) };
            let _ = command.args(["-batch", "-"]).input(lines).run().succeeded();
        }
    }
}

/// Sets a kernel parameter in a namespace. One that this kernel does not have needs no setting.
fn set(namespace: &str, parameter: &str, value: &str) {
    let script = format!("[ ! -e /proc/sys/{parameter} ] || echo {value} > /proc/sys/{parameter}");
    let net = format!("--net=/run/netns/{namespace}");
    let _ = Command::new("nsenter").args([net.as_str(), "--", "sh", "-c", &script]).run().succeeded();
}

fn ip(arguments: &[&str]) {
    let _ = Command::new("ip").args(arguments).run().succeeded();
}
