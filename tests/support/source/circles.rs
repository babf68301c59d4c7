//! Who names whom, and the circles in it: among the top modules, and among the files of one top module.
//!
//! A file names another when one of its paths, `use` or not, leads to something that is defined there; what a parent passes on
//! (`pub use child::X`, named `super::X`) leads to the child. Between a file and the files of its own submodules, at any
//! depth, there is no edge: a parent declares its children and brings them together, and they may use what it has for them.
//! Tests count for nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Names;
use super::tree::SourceFile;

/// Who names whom, and by which paths.
#[derive(Debug, Default)]
pub struct Graph {
    edges: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Graph {
    /// The edges among the files of each top module.
    pub fn of_files(files: &[SourceFile], names: &Names) -> Self {
        let mut graph = Self::default();
        for (index, file) in files.iter().enumerate().filter(|(_, file)| !file.module.is_empty()) {
            for named in names.named(index) {
                for definition in names.definitions(&named.path) {
                    let other = &files[definition.file];
                    let related = file.module.starts_with(&other.module) || other.module.starts_with(&file.module);
                    if !related && file.module[0] == other.module[0] {
                        graph.add(&file.name, &other.name, &named.path);
                    }
                }
            }
        }
        graph
    }

    /// The edges among the top modules.
    pub fn of_modules(files: &[SourceFile], names: &Names) -> Self {
        let tops: BTreeSet<_> = files.iter().filter_map(|file| file.module.first()).collect();
        let mut graph = Self::default();
        for (index, file) in files.iter().enumerate() {
            let Some(from) = file.module.first() else { continue };
            for named in names.named(index) {
                let to = named.path.get(1).filter(|to| named.path[0] == "crate" && tops.contains(to) && *to != from);
                if let Some(to) = to {
                    graph.add(from, to, &named.path);
                }
            }
        }
        graph
    }

    fn add(&mut self, from: &str, to: &str, path: &[String]) {
        self.edges.entry(from.to_owned()).or_default().entry(to.to_owned()).or_default().insert(path.join("::"));
    }

    /// The largest sets in which everybody reaches everybody, of those with more than one member.
    pub fn circles(&self) -> Vec<BTreeSet<String>> {
        let reached: BTreeMap<_, _> = self.edges.keys().map(|from| (from.as_str(), self.reached_from(from))).collect();
        let mut circles = BTreeSet::new();
        for (from, there) in &reached {
            let back = there.iter().filter(|to| reached.get(*to).is_some_and(|there| there.contains(from)));
            let circle: BTreeSet<_> = back.map(|&member| member.to_owned()).collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    /// Every edge inside of a circle, with the paths that make it.
    pub fn edges_within(&self, circle: &BTreeSet<String>) -> Vec<String> {
        let edges = self.edges.iter().flat_map(|(from, edges)| edges.iter().map(move |(to, paths)| (from, to, paths)));
        let inside = edges.filter(|(from, to, _)| circle.contains(*from) && circle.contains(*to));
        inside
            .map(|(from, to, paths)| {
                format!("{from} -> {to}: {}", paths.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
            })
            .collect()
    }

    fn reached_from<'a>(&'a self, from: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(next) = open.pop() {
            for to in self.edges.get(next).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(to.as_str()) {
                    open.push(to);
                }
            }
        }
        reached
    }
}
