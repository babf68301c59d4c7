//! Where a path leads: to the file that defines what it names, through every `use` that passes it on.
//!
//! Names alone decide. What a macro defines is not seen, and a name that a module only gets from a foreign crate leads nowhere.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{self, Found};
use super::tree::SourceFile;

/// More `use`s behind one another than anybody writes.
const MAX_STEPS: u8 = 16;

/// The names of all modules.
#[derive(Debug)]
pub struct Names {
    modules: BTreeMap<Vec<String>, Module>,
    /// What each file names, in the files' order.
    found: Vec<Found>,
}

/// What a module knows by a name of one word.
#[derive(Debug, Default)]
struct Module {
    file: usize,
    items: BTreeSet<String>,
    uses: BTreeMap<String, Vec<Vec<String>>>,
    globs: Vec<Vec<String>>,
}

/// Where something is defined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Definition {
    /// Its index.
    pub file: usize,
    /// `None`: the path names the module itself.
    pub item: Option<String>,
}

impl Names {
    pub fn of(files: &[SourceFile]) -> Self {
        let mut names = Self { modules: BTreeMap::new(), found: Vec::new() };
        for (index, file) in files.iter().enumerate() {
            let found = paths::read(&file.module, &file.code);
            if file.name != "src/main.rs" {
                names.add_items(index, &file.module, &file.code.items);
                names.add_uses(&found);
            }
            names.found.push(found);
        }
        names
    }

    /// What the file of this index names.
    pub fn named(&self, file: usize) -> &[paths::Named] {
        &self.found[file].named
    }

    /// Where what `path` names is defined, a path that begins with `crate`; nowhere if that is not ours.
    pub fn definitions(&self, path: &[String]) -> BTreeSet<Definition> {
        self.follow(path, MAX_STEPS)
    }

    fn add_items(&mut self, file: usize, module: &[String], items: &[syn::Item]) {
        let mut own = BTreeSet::new();
        for item in items {
            let name = match item {
                syn::Item::Const(item) => &item.ident,
                syn::Item::Enum(item) => &item.ident,
                syn::Item::Fn(item) => &item.sig.ident,
                syn::Item::Static(item) => &item.ident,
                syn::Item::Struct(item) => &item.ident,
                syn::Item::Trait(item) => &item.ident,
                syn::Item::Type(item) => &item.ident,
                syn::Item::Union(item) => &item.ident,
                syn::Item::Mod(child) => {
                    if let Some((_, items)) = &child.content {
                        self.add_items(file, &[module, &[child.ident.to_string()]].concat(), items);
                    }
                    continue;
                }
                _ => continue,
            };
            own.insert(name.to_string());
        }
        let entry = self.modules.entry(module.to_vec()).or_default();
        entry.file = file;
        entry.items.extend(own);
    }

    fn add_uses(&mut self, found: &Found) {
        for named in &found.named {
            let Some(module) = self.modules.get_mut(&named.module) else { continue };
            match &named.binds {
                Some(name) => module.uses.entry(name.clone()).or_default().push(named.path.clone()),
                None if named.glob => module.globs.push(named.path.clone()),
                None => {}
            }
        }
    }

    fn follow(&self, path: &[String], steps: u8) -> BTreeSet<Definition> {
        let Some(path) = path.strip_prefix(&["crate".to_owned()]).filter(|_| steps > 0) else { return BTreeSet::new() };
        let depth = (0..=path.len()).rev().find(|depth| self.modules.contains_key(&path[..*depth]));
        let Some((depth, module)) = depth.map(|depth| (depth, &self.modules[&path[..depth]])) else {
            return BTreeSet::new();
        };
        let here = |item| BTreeSet::from([Definition { file: module.file, item }]);
        let Some((name, rest)) = path[depth..].split_first() else { return here(None) };
        if module.items.contains(name) {
            return here(Some(name.clone()));
        }
        if let Some(targets) = module.uses.get(name) {
            let targets = targets.iter().map(|target| [target, rest].concat());
            return targets.flat_map(|target| self.follow(&target, steps - 1)).collect();
        }
        let globs = module.globs.iter().map(|glob| [glob.as_slice(), &path[depth..]].concat());
        let through_globs: BTreeSet<_> = globs
            .flat_map(|target| self.follow(&target, steps - 1))
            .filter(|definition| definition.item.as_ref() == Some(name))
            .collect();
        if through_globs.is_empty() { here(Some(name.clone())) } else { through_globs }
    }
}
