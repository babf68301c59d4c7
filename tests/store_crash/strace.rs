//! strace: what did it record, and what does a line of it mean.

use std::path::Path;

pub use super::tracer::available;

/// Everything by which a process changes files, and what is needed to follow it.
pub const CALLS: &str = "openat,creat,close,dup,dup2,dup3,fcntl,write,pwrite64,writev,pwritev,ftruncate,fallocate,fsync,\
fdatasync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,lseek,mmap";

/// One system call, or the beginning of one.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    pub arguments: Vec<Argument>,
    pub returned: i64,
    /// The line at which it began, and the one at which it returned.
    pub began: usize,
    pub ended: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    Bytes(Vec<u8>),
    Word(String),
}

impl Call {
    pub fn bytes(&self, index: usize) -> &[u8] {
        match self.arguments.get(index) {
            Some(Argument::Bytes(bytes)) => bytes,
            other => panic!("argument {index} of {} is {other:?}", self.name),
        }
    }

    pub fn word(&self, index: usize) -> &str {
        match self.arguments.get(index) {
            Some(Argument::Word(word)) => word,
            other => panic!("argument {index} of {} is {other:?}", self.name),
        }
    }

    pub fn number(&self, index: usize) -> i64 {
        self.word(index).parse().unwrap_or_else(|_| panic!("argument {index} of {self:?} is no number"))
    }
}

/// Reads what `strace -f -xx -o` wrote: the calls in the order in which they returned.
pub fn read(path: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(path).expect("strace wrote it");
    let mut begun: std::collections::HashMap<&str, (usize, String)> = std::collections::HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some((pid, rest)) = line.split_once(char::is_whitespace) else { continue };
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, (number, start.to_owned()));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((_, end)) = resumed.split_once(" resumed>") else { continue };
            let Some((began, start)) = begun.remove(pid) else { continue };
            calls.extend(parse(&format!("{start}{end}"), began, number));
        } else {
            calls.extend(parse(rest, number, number));
        }
    }
    calls
}

fn parse(line: &str, began: usize, ended: usize) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let close = rest.rfind(") = ").or_else(|| rest.rfind(')').filter(|at| rest[*at..].contains('=')))?;
    let returned = rest[close..].split_once('=')?.1.trim();
    let returned = returned.split(' ').next()?.parse().ok()?;
    let arguments = arguments(&rest[..close]);
    Some(Call { name: name.to_owned(), arguments, returned, began, ended })
}

/// Splits at commas outside of strings and brackets; strings are all in hexadecimal escapes.
fn arguments(text: &str) -> Vec<Argument> {
    let (mut found, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0, false);
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'[' | b'{' | b'(' if !quoted => depth += 1,
            b']' | b'}' | b')' if !quoted => depth -= 1,
            b',' if !quoted && depth == 0 => {
                found.push(argument(text[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(argument(text[start..].trim()));
    found
}

fn argument(text: &str) -> Argument {
    if text.starts_with('[') {
        // The buffers of a gathering write, one after the other.
        let buffers = text.split("iov_base=").skip(1).filter_map(string);
        return Argument::Bytes(buffers.flatten().collect());
    }
    string(text).map_or_else(|| Argument::Word(text.to_owned()), Argument::Bytes)
}

fn string(text: &str) -> Option<Vec<u8>> {
    let (hex, rest) = text.strip_prefix('"')?.split_once('"')?;
    assert!(!rest.starts_with("..."), "strace has cut a string");
    hex.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}
