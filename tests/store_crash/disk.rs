//! A model of a disk, of what a power cut may leave of it.
//!
//! - Data that was written and not synced is kept, dropped, or torn into sectors of 512 bytes of which each is kept or dropped.
//! - Names and lengths are changed in order, as ext4 does it: what survives of them is a prefix. An fsync makes all earlier ones
//!   durable; an fdatasync does so only when the file itself has a new name or length.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::strace::{Argument, Call};

const SECTOR: usize = 512;
const SECTOR_BYTES: u64 = SECTOR as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

type Names = BTreeMap<PathBuf, Node>;

/// A change of names or lengths.
#[derive(Clone, Debug)]
enum Meta {
    Make(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// Of which file; how long is in the [`Change`] that goes with it.
    Length(usize),
}

#[derive(Clone, Debug)]
enum Change {
    /// At which line of the recording it was complete, where, what.
    Write(usize, u64, Vec<u8>),
    /// The number of the [`Meta`] that it goes with.
    Length(usize, u64),
}

/// Sparse content.
#[derive(Clone, Debug, Default)]
struct Content {
    len: u64,
    sectors: BTreeMap<u64, [u8; SECTOR]>,
}

impl Content {
    fn write(&mut self, offset: u64, data: &[u8], mut keep: impl FnMut() -> bool) {
        let mut at = 0;
        while at < data.len() {
            let position = offset + at as u64;
            let (sector, within) = (position / SECTOR_BYTES, usize::try_from(position % SECTOR_BYTES).expect("small"));
            let len = (SECTOR - within).min(data.len() - at);
            if keep() {
                let target = self.sectors.entry(sector).or_insert([0; SECTOR]);
                target[within..within + len].copy_from_slice(&data[at..at + len]);
                self.len = self.len.max(position + len as u64);
            }
            at += len;
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.sectors.split_off(&len.div_ceil(SECTOR_BYTES));
            if let Some(last) = self.sectors.get_mut(&(len / SECTOR_BYTES)) {
                last[usize::try_from(len % SECTOR_BYTES).expect("small")..].fill(0);
            }
        }
        self.len = len;
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Content,
    pending: Vec<Change>,
    live_len: u64,
}

#[derive(Clone, Debug)]
struct Open {
    path: PathBuf,
    node: Node,
    offset: u64,
    append: bool,
}

/// The disk below one directory, while a recording is replayed.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    inodes: Vec<Inode>,
    live: Names,
    durable: Names,
    /// All that ever happened, by line; those before `committed` are durable.
    metas: Vec<(usize, Meta)>,
    committed: usize,
    open: HashMap<i64, usize>,
    opens: Vec<Open>,
}

impl Disk {
    /// What lies below `root` now is durable.
    pub fn load(root: &Path) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            inodes: Vec::new(),
            live: Names::new(),
            durable: Names::new(),
            metas: Vec::new(),
            committed: 0,
            open: HashMap::new(),
            opens: Vec::new(),
        };
        disk.load_dir(root);
        disk.durable = disk.live.clone();
        disk
    }

    fn load_dir(&mut self, dir: &Path) {
        self.live.insert(dir.to_owned(), Node::Dir);
        for entry in fs::read_dir(dir).expect("it reads") {
            let path = entry.expect("it reads").path();
            if path.is_dir() {
                self.load_dir(&path);
                continue;
            }
            let bytes = fs::read(&path).expect("it reads");
            let mut content = Content::default();
            for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                if sector.iter().any(|byte| *byte != 0) {
                    content.write(number as u64 * SECTOR_BYTES, sector, || true);
                }
            }
            content.len = bytes.len() as u64;
            self.inodes.push(Inode { live_len: content.len, durable: content, pending: Vec::new() });
            self.live.insert(path, Node::File(self.inodes.len() - 1));
        }
    }

    /// Whether something that was written is not durable.
    pub fn is_dirty(&self) -> bool {
        self.committed < self.metas.len() || self.inodes.iter().any(|inode| !inode.pending.is_empty())
    }

    /// Follows one call of the recording.
    pub fn apply(&mut self, call: &Call) {
        if call.returned < 0 {
            return;
        }
        match call.name.as_str() {
            "openat" => self.open(call),
            "close" => {
                self.open.remove(&call.number(0));
            }
            "dup" | "dup2" | "dup3" => self.duplicate(call),
            "fcntl" if call.word(1).starts_with("F_DUPFD") => self.duplicate(call),
            "lseek" => {
                if let Some(open) = self.opened(call) {
                    self.opens[open].offset = u64::try_from(call.returned).expect("not negative");
                }
            }
            "write" | "writev" => self.write(call, None),
            "pwrite64" | "pwritev" => {
                self.write(call, Some(u64::try_from(call.number(call.arguments.len() - 1)).expect("not negative")));
            }
            "ftruncate" => {
                if let Some(Node::File(inode)) = self.opened(call).map(|open| self.opens[open].node) {
                    self.set_len(call.ended, inode, u64::try_from(call.number(1)).expect("not negative"));
                }
            }
            "fsync" => self.sync(call, true),
            "fdatasync" => self.sync(call, false),
            "mkdir" => self.make_dir(call, call.bytes(0)),
            "mkdirat" => self.make_dir(call, call.bytes(1)),
            "rename" => self.rename(call, call.bytes(0), call.bytes(1)),
            "renameat" | "renameat2" => {
                assert!(call.arguments.get(4).is_none_or(|flags| *flags == Argument::Word("0".into())), "{call:?}");
                self.rename(call, call.bytes(1), call.bytes(3));
            }
            "unlink" | "rmdir" => self.remove(call, call.bytes(0)),
            "unlinkat" => {
                assert_eq!(call.word(0), "AT_FDCWD", "{call:?}");
                self.remove(call, call.bytes(1));
            }
            "fcntl" => {}
            "mmap" => assert!(
                !call.word(3).contains("MAP_SHARED") || !self.open.contains_key(&call.number(4)),
                "the model knows no shared maps: {call:?}"
            ),
            other => assert!(self.opened(call).is_none(), "the model does not know {other}"),
        }
    }

    fn path(&self, bytes: &[u8]) -> Option<PathBuf> {
        let path = PathBuf::from(String::from_utf8(bytes.to_vec()).expect("text"));
        path.starts_with(&self.root).then_some(path)
    }

    fn opened(&self, call: &Call) -> Option<usize> {
        match call.arguments.first() {
            Some(Argument::Word(word)) => self.open.get(&word.parse().ok()?).copied(),
            _ => None,
        }
    }

    fn meta(&mut self, line: usize, meta: Meta) {
        apply_meta(&mut self.live, &meta);
        self.metas.push((line, meta));
    }

    fn open(&mut self, call: &Call) {
        let Some(path) = self.path(call.bytes(1)) else { return };
        let flags = call.word(2).to_owned();
        let known = self.live.get(&path).copied();
        let node = known.unwrap_or_else(|| {
            self.inodes.push(Inode::default());
            let node = Node::File(self.inodes.len() - 1);
            self.meta(call.ended, Meta::Make(path.clone(), node));
            node
        });
        if let Node::File(inode) = node
            && flags.contains("O_TRUNC")
            && self.inodes[inode].live_len > 0
        {
            self.set_len(call.ended, inode, 0);
        }
        self.opens.push(Open { path, node, offset: 0, append: flags.contains("O_APPEND") });
        self.open.insert(call.returned, self.opens.len() - 1);
    }

    fn duplicate(&mut self, call: &Call) {
        if let Some(open) = self.opened(call) {
            self.open.insert(call.returned, open);
        }
    }

    fn set_len(&mut self, line: usize, inode: usize, len: u64) {
        let number = self.metas.len();
        self.meta(line, Meta::Length(inode));
        self.inodes[inode].pending.push(Change::Length(number, len));
        self.inodes[inode].live_len = len;
    }

    fn write(&mut self, call: &Call, offset: Option<u64>) {
        let Some(open) = self.opened(call) else { return };
        let Node::File(inode) = self.opens[open].node else { return };
        let written = usize::try_from(call.returned).expect("not negative");
        let data = call.bytes(1)[..written].to_vec();
        let at = match offset {
            Some(offset) => offset,
            None if self.opens[open].append => self.inodes[inode].live_len,
            None => self.opens[open].offset,
        };
        let end = at + data.len() as u64;
        if offset.is_none() {
            self.opens[open].offset = end;
        }
        let inode = &mut self.inodes[inode];
        inode.live_len = inode.live_len.max(end);
        inode.pending.push(Change::Write(call.ended, at, data));
    }

    /// Only what was complete before the sync began is covered by it.
    fn sync(&mut self, call: &Call, all: bool) {
        let Some(open) = self.opened(call) else { return };
        let node = self.opens[open].node;
        let own = |meta: &Meta| match (meta, node) {
            (Meta::Make(_, made), _) => *made == node,
            (Meta::Length(changed), Node::File(inode)) => *changed == inode,
            (Meta::Rename(_, to), _) => *to == self.opens[open].path,
            _ => false,
        };
        let until = self.metas.partition_point(|(line, _)| *line < call.began);
        let uncommitted = self.metas.get(self.committed..until).unwrap_or_default();
        if all || uncommitted.iter().any(|(_, meta)| own(meta)) {
            for (_, meta) in self.metas.get(self.committed..until).unwrap_or_default() {
                apply_meta(&mut self.durable, meta);
            }
            self.committed = self.committed.max(until);
        }
        if let Node::File(inode) = node {
            let committed = self.committed;
            let inode = &mut self.inodes[inode];
            let durable = &mut inode.durable;
            inode.pending.retain(|change| match change {
                Change::Write(line, offset, data) if *line < call.began => {
                    durable.write(*offset, data, || true);
                    false
                }
                Change::Length(number, len) if *number < committed => {
                    durable.set_len(*len);
                    false
                }
                _ => true,
            });
        }
    }

    fn make_dir(&mut self, call: &Call, path: &[u8]) {
        if let Some(path) = self.path(path) {
            self.meta(call.ended, Meta::Make(path, Node::Dir));
        }
    }

    fn rename(&mut self, call: &Call, from: &[u8], to: &[u8]) {
        if let (Some(from), Some(to)) = (self.path(from), self.path(to)) {
            for open in &mut self.opens {
                if let Ok(rest) = open.path.strip_prefix(&from) {
                    open.path = to.join(rest);
                }
            }
            self.meta(call.ended, Meta::Rename(from, to));
        }
    }

    fn remove(&mut self, call: &Call, path: &[u8]) {
        if let Some(path) = self.path(path) {
            self.meta(call.ended, Meta::Remove(path));
        }
    }

    /// Cuts the power, and writes what is left of it to `target`.
    pub fn crash(&self, random: &mut fastrand::Rng, target: &Path) {
        let survived = match random.u8(0..3) {
            0 => self.committed,
            1 => self.metas.len(),
            _ => random.usize(self.committed..=self.metas.len()),
        };
        let mut names = self.durable.clone();
        for (_, meta) in &self.metas[self.committed..survived] {
            apply_meta(&mut names, meta);
        }
        for (path, node) in &names {
            let path = target.join(path.strip_prefix(&self.root).expect("it lies below"));
            match node {
                Node::Dir => fs::create_dir_all(&path).expect("a directory can be made"),
                Node::File(inode) => self.left_of(*inode, survived, random).save(&path),
            }
        }
    }

    fn left_of(&self, inode: usize, survived: usize, random: &mut fastrand::Rng) -> Content {
        let inode = &self.inodes[inode];
        let mut content = inode.durable.clone();
        for change in &inode.pending {
            match change {
                Change::Write(_, offset, data) => match random.u8(0..10) {
                    0..=3 => content.write(*offset, data, || true),
                    4..=6 => {}
                    _ => content.write(*offset, data, || random.bool()),
                },
                Change::Length(number, len) if *number < survived => content.set_len(*len),
                Change::Length(..) => {}
            }
        }
        content
    }
}

impl Content {
    fn save(&self, path: &Path) {
        let file = fs::File::create(path).expect("a file can be made");
        file.set_len(self.len).expect("it can be long");
        // Modes are not followed; nobody else's are those of the guard's files.
        file.set_permissions(fs::Permissions::from_mode(0o600)).expect("ours");
        for (number, sector) in &self.sectors {
            let offset = number * SECTOR_BYTES;
            let len = usize::try_from(SECTOR_BYTES.min(self.len.saturating_sub(offset))).expect("small");
            file.write_all_at(&sector[..len], offset).expect("it can be written");
        }
    }
}

fn apply_meta(names: &mut Names, meta: &Meta) {
    match meta {
        Meta::Make(path, node) => {
            names.insert(path.clone(), *node);
        }
        Meta::Rename(from, to) => {
            let moved: Vec<_> = names
                .iter()
                .filter(|(path, _)| path.starts_with(from))
                .map(|(path, node)| (path.clone(), *node))
                .collect();
            for (path, node) in moved {
                names.remove(&path);
                let rest = path.strip_prefix(from).expect("it starts with it");
                names.insert(if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) }, node);
            }
        }
        Meta::Remove(path) => {
            names.remove(path);
        }
        Meta::Length(_) => {}
    }
}
