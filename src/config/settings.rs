//! Every setting there is: one table, from which the file's keys, the environment's names, `--set`, the commented file that
//! `init` writes and the list that `--check-config` prints all follow.

use std::fmt::Write as _;

/// The prefix of every environment variable that is a setting.
pub const ENV_PREFIX: &str = "BLOCKSYNCD_";

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// As `section.name`, or `name` at the top of the file.
    pub key: &'static str,
    pub kind: Kind,
    /// As it would be written in the file; `""` means unset.
    pub default: &'static str,
    /// What it is and what a larger value costs; lines of at most 110 characters.
    pub help: &'static str,
}

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Relative to the home.
    Path,
    /// In the environment and on the command line: separated by commas.
    List,
    Integer,
    /// As `200ms`, `1s`, `2m`.
    Duration,
    /// A number of bytes, or text as `512KiB`, `8MiB`.
    Bytes,
    Choice(&'static [&'static str]),
}

impl Kind {
    /// What a value must be, for a message about one that is not.
    #[must_use]
    pub fn expected(self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Path => "a path".into(),
            Self::List => "a list, as [\"one\", \"two\"], or one,two outside of the file".into(),
            Self::Integer => "a whole number, not below 0".into(),
            Self::Duration => "a duration with its unit, as \"200ms\" or \"1s\"".into(),
            Self::Bytes => "a number of bytes, as 1048576 or \"8MiB\"".into(),
            Self::Choice(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
        }
    }
}

const fn setting(key: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { key, kind, default, help }
}

/// All of them, in the order in which they are written.
pub const SETTINGS: &[Setting] = &[
    setting(
        "shutdown_grace",
        Kind::Duration,
        "\"10s\"",
        "How long a graceful end may take: answering hosts, finishing writes, closing connections. A supervisor's own\n\
         patience (systemd: TimeoutStopSec) must be longer.",
    ),
    setting(
        "chain.genesis",
        Kind::Path,
        "\"genesis.toml\"",
        "The chain: its id, its initial height and who may propose.",
    ),
    setting(
        "p2p.listen",
        Kind::List,
        "[\"/ip4/0.0.0.0/tcp/7676\"]",
        "Multiaddrs to listen on: TCP, or QUIC as /ip4/0.0.0.0/udp/7676/quic-v1. Port 0 takes any free one.",
    ),
    setting(
        "p2p.seeds",
        Kind::List,
        "[]",
        "Multiaddrs of peers that are dialled for ever, as /ip4/192.0.2.1/tcp/7676/p2p/12D3Koo... or\n\
         /dns4/peer.example/tcp/7676/p2p/12D3Koo... Without any, this node waits for peers that dial it.",
    ),
    setting(
        "p2p.announce",
        Kind::List,
        "[]",
        "Multiaddrs, with names or addresses, that peers are told instead of those in p2p.listen: for a node behind a NAT\n\
         or a load balancer.",
    ),
    setting(
        "p2p.persistent",
        Kind::List,
        "[]",
        "Multiaddrs, with /p2p/<peer id>, of peers that are trusted: dialled for ever, let in whatever the limits are,\n\
         and never evicted or banned by the machine.",
    ),
    setting(
        "p2p.mode",
        Kind::Choice(&["open", "private"]),
        "\"open\"",
        "Who may be a peer: in `private` mode only those of p2p.persistent, which must name some.",
    ),
    setting(
        "p2p.allow",
        Kind::List,
        "[]",
        "Peer ids, IP addresses and subnets (192.0.2.0/24); when there are any, only these and p2p.persistent may connect.",
    ),
    setting(
        "p2p.deny",
        Kind::List,
        "[]",
        "Peer ids, IP addresses and subnets that never connect, inbound or outbound, whatever else is set.",
    ),
    setting(
        "p2p.max_inbound",
        Kind::Integer,
        "\"\"",
        "Connections that others make; unset: five eighths of what limits.memory_bytes has room for. When all are taken, a\n\
         peer from a crowded subnet makes room for one from another. Seeds and persistent peers come on top.",
    ),
    setting(
        "p2p.max_outbound",
        Kind::Integer,
        "\"\"",
        "Connections that we make, besides those to seeds and persistent peers; unset: what p2p.max_inbound leaves.",
    ),
    setting(
        "p2p.min_outbound",
        Kind::Integer,
        "4",
        "So many peers are dialled of those that were met or found before, besides seeds and persistent peers, from as many\n\
         subnets as there are: strangers that dial us can then never be all that we have. Not in private mode.",
    ),
    setting(
        "p2p.discovery",
        Kind::Choice(&["on", "off"]),
        "\"on\"",
        "Find peers of the chain in a Kademlia DHT, whose first members are the seeds, as ev-node's nodes do, and tell others\n\
         where we listen. Always off in private mode.",
    ),
    setting("p2p.max_pending", Kind::Integer, "32", "Handshakes under way, of each direction."),
    setting(
        "p2p.max_per_peer",
        Kind::Integer,
        "2",
        "Connections with one peer: both may have dialled at the same time.",
    ),
    setting(
        "p2p.max_per_ip",
        Kind::Integer,
        "8",
        "Connections with one IP address, of either direction; raise it where many nodes share one.",
    ),
    setting(
        "p2p.max_per_subnet",
        Kind::Integer,
        "16",
        "Connections with one subnet, a /24 of IPv4 or a /48 of IPv6; raise it where all nodes are in one.",
    ),
    setting(
        "p2p.serve_rate",
        Kind::Bytes,
        "\"128MiB\"",
        "What one peer is served of blocks, in bytes a second. Who asks for more is answered later, and in parts; it is\n\
         never banned for it.",
    ),
    setting("p2p.serve_burst", Kind::Bytes, "\"256MiB\"", "What one peer is served at once, after a pause."),
    setting(
        "p2p.serve_min_rate",
        Kind::Bytes,
        "\"32KiB\"",
        "What a peer must read of an answer, in bytes a second; a slower one loses the stream, not the connection.",
    ),
    setting("p2p.node_key", Kind::Path, "\"node.key\"", "The key that is this node's name among its peers."),
    setting(
        "api.socket",
        Kind::Path,
        "\"api.sock\"",
        "The Unix socket that the host connects to. Its path may have at most 107 bytes.",
    ),
    setting(
        "api.allow_uids",
        Kind::List,
        "[]",
        "User ids that may connect besides our own and root. They must also be able to reach the socket's directory.",
    ),
    setting("api.max_connections", Kind::Integer, "32", "Hosts that may be connected at the same time."),
    setting("store.dir", Kind::Path, "\"data\"", "The directory of the block store."),
    setting(
        "store.durability",
        Kind::Choice(&["power", "process"]),
        "\"power\"",
        "What a block that was acknowledged survives: `power`, a power cut (fsynced); `process`, only the death of\n\
         this process, for those who want the milliseconds.",
    ),
    setting(
        "store.cache_bytes",
        Kind::Bytes,
        "\"\"",
        "The store's cache, taken from limits.memory_bytes; unset: an eighth of it, at most 64MiB.",
    ),
    setting(
        "store.reserve_bytes",
        Kind::Bytes,
        "\"256MiB\"",
        "Below this much free disk space nothing more is taken in; reading goes on.",
    ),
    setting(
        "store.retain_blocks",
        Kind::Integer,
        "\"\"",
        "How many blocks are kept up to the lower of the hard head and what every named consumer has acknowledged;\n\
         older ones are pruned. Unset: all are kept (an archival node).",
    ),
    setting(
        "store.max_bytes",
        Kind::Bytes,
        "\"\"",
        "The most bytes of blocks that are stored: older ones are pruned before, and where they may not be, nothing more\n\
         is taken in until they may. The database adds to it: journals, indexes, and what was pruned until it is\n\
         compacted. Unset: as many as the disk holds.",
    ),
    setting(
        "store.prune_unconfirmed",
        Kind::Choice(&["off", "on"]),
        "\"off\"",
        "`on`: prune below the soft head while DA has confirmed nothing, for a chain without a DA source. What is pruned\n\
         then can never be checked against DA.",
    ),
    setting(
        "limits.memory_bytes",
        Kind::Bytes,
        "\"2GiB\"",
        "The one budget from which every queue and buffer is derived: what all of them take when full of largest\n\
         blocks, not what is taken at start. `run --check-config` prints what each gets. More peers need more.",
    ),
    setting(
        "limits.max_block_bytes",
        Kind::Bytes,
        "\"\"",
        "The largest block that this node takes, encoded and signed; unset: the chain's, which its genesis file says. It can\n\
         only be lower, and then this node stops at the first larger block of the chain.",
    ),
    setting(
        "sync.on_divergence",
        Kind::Choice(&["follow", "halt"]),
        "\"follow\"",
        "When DA has another block than we hold: `follow` takes ours back and tells the host to rewind; `halt` waits\n\
         for the operator. A node that signs always halts.",
    ),
    setting(
        "sync.from",
        Kind::Text,
        "\"genesis\"",
        "Where an empty store begins: `genesis`, or a block that you trust: HEIGHT/HASH@DA, as `ctl checkpoint` prints it on a\n\
         node that you trust; or HEIGHT/HASH (`ctl get HEIGHT`), and then nothing is hard before DA has shown that block.\n\
         A store that has another block there is refused.",
    ),
    setting(
        "sync.backfill",
        Kind::Choice(&["off", "on"]),
        "\"off\"",
        "`on`: after a start from a trusted block, fetch what lies below it too, down to genesis, while there is nothing\n\
         else to do. Not together with pruning.",
    ),
    setting(
        "sync.block_time",
        Kind::Duration,
        "\"1s\"",
        "How often the chain makes a block, roughly. Only a fallback tick: nothing waits for it when there is news.",
    ),
    setting("sync.max_clock_drift", Kind::Duration, "\"10s\"", "How far a block's time may be ahead of our clock."),
    setting(
        "signer.key",
        Kind::Path,
        "\"\"",
        "The proposer's key, on the node that signs. Unset: this node follows, or its host signs.",
    ),
    setting(
        "signer.key_may_be_link",
        Kind::Choice(&["off", "on"]),
        "\"off\"",
        "`on`: signer.key may be a symbolic link, as orchestrators mount secrets; what it leads to is looked at as a key\n\
         is, and may be root's. Then signer.guard must be set: to a file, never a link.",
    ),
    setting(
        "signer.guard",
        Kind::Path,
        "\"\"",
        "Remembers what the proposer's key has signed, so that no height is ever signed twice. Unset: beside the key,\n\
         with `.guard` added to its name. Without signer.key, it lets the host sign. Never delete it, and never\n\
         restore it from a backup.",
    ),
    setting(
        "log.filter",
        Kind::Text,
        "\"info,fjall=warn,lsm_tree=warn\"",
        "What is logged, as tracing's EnvFilter reads it: `info`, `warn,blocksyncd::p2p=debug`. SIGHUP reads it again. What\n\
         the modules below `blocksyncd::` are called may change with any version; a name that none has any more logs nothing.",
    ),
    setting(
        "log.format",
        Kind::Choice(&["auto", "text", "json"]),
        "\"auto\"",
        "How it is logged, to stderr: `auto` is text on a terminal and JSON elsewhere.",
    ),
];

impl Setting {
    /// `None` for an unknown key.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The environment's name of it.
    #[must_use]
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// The section and the name in it; the section is empty at the top.
    #[must_use]
    pub fn split(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }
}

/// The commented file that `init` writes: every setting, explained; those of `set` with that value, the others commented out
/// with their default.
#[must_use]
pub fn commented_file(set: &[(&str, String)]) -> String {
    let mut out = String::from(
        "# Settings of blocksyncd. What is commented out shows the default. Each can also be set in the environment\n\
         # (p2p.listen: BLOCKSYNCD_P2P_LISTEN) and on the command line (--set p2p.listen=...), which wins.\n\
         # Relative paths are relative to this home. Check with: blocksyncd run --home <this home> --check-config\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (this, name) = setting.split();
        if this != section {
            section = this;
            let _ = writeln!(out, "\n[{section}]");
        }
        out.push('\n');
        for line in setting.help.lines() {
            let _ = writeln!(out, "# {line}");
        }
        match set.iter().find(|(key, _)| *key == setting.key) {
            Some((_, value)) => {
                let _ = writeln!(out, "{name} = {}", toml::Value::from(value.as_str()));
            }
            None => {
                let _ = writeln!(out, "# {name} = {}", setting.default);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_every_setting_with_its_default() {
        let readme = include_str!("../../README.md");
        for setting in SETTINGS {
            let default = setting.default.trim_matches('"');
            let row = match default {
                "" => format!("| `{}` | unset |", setting.key),
                default => format!("| `{}` | `{default}` |", setting.key),
            };
            assert!(readme.contains(&row), "README.md lacks the row {row}");
        }
    }
}
