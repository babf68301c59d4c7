//! How well the core's state is divided: `Syncer` in `src/sync`, its fields, and its parts.
//!
//! A part is a struct of `src/sync` that is the type of a field of `Syncer`, or of a field of a part, by itself or in an
//! `Option` or `Box`. No parts are the structs that are data for everybody: `pub`, with nothing but `pub` fields (`Config`,
//! `Heads`). A part is left alone when only its own files name its fields, and the others call its methods. Its own files are
//! the one that defines it and, where that is the `mod.rs` of a folder, those of the folder: Rust's privacy draws the same line.

use std::collections::{BTreeMap, BTreeSet};

use crate::fields::{Access, Fields, Key};
use crate::source::names::Names;
use crate::source::tree::SourceFile;

const FOLDER: &str = "src/sync/";
const CORE: &str = "Syncer";

#[derive(Debug, Default)]
pub struct Parts {
    /// Each field of `Syncer` with the files that name it.
    pub fields: Vec<(String, BTreeSet<String>)>,
    /// The files that say `impl Syncer`.
    pub impls: BTreeSet<String>,
    /// The names of the parts.
    pub names: BTreeSet<String>,
    /// Each part whose fields other files name: those files, and the fields.
    pub opened: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>,
}

impl Parts {
    /// `None`: there is no `Syncer`, or several.
    pub fn of(files: &[SourceFile], names: &Names) -> Option<Self> {
        let fields = Fields::of(files, names, FOLDER);
        let core = fields.find(CORE)?;
        let short = |file: &usize| files[*file].name.trim_start_matches(FOLDER).to_owned();
        let keys = parts(&fields, core);
        let mut opened = BTreeMap::new();
        let is_own = |access: &Access| is_own_file(&files[access.file].name, &files[access.of.file].name);
        for access in fields.accesses.iter().filter(|access| keys.contains(&access.of) && !is_own(access)) {
            let (files, names): &mut (BTreeSet<_>, BTreeSet<_>) = opened.entry(name(&access.of)).or_default();
            files.insert(short(&access.file));
            names.insert(access.field.clone());
        }
        let touches = |field: &str| {
            let touching = fields.accesses.iter().filter(|access| access.of == *core && access.field == field);
            touching.filter(|access| access.through_self).map(|access| short(&access.file)).collect()
        };
        Some(Self {
            fields: fields.structs[core].fields.iter().map(|(field, _)| (field.clone(), touches(field))).collect(),
            impls: fields.impls.get(core).into_iter().flatten().map(short).collect(),
            names: keys.iter().map(name).collect(),
            opened,
        })
    }
}

pub fn is_own_file(file: &str, definition: &str) -> bool {
    file == definition
        || definition.strip_suffix("mod.rs").is_some_and(|folder| folder != FOLDER && file.starts_with(folder))
}

fn name(key: &Key) -> String {
    key.item.clone().unwrap_or_default()
}

fn parts(fields: &Fields, core: &Key) -> BTreeSet<Key> {
    let mut parts = BTreeSet::new();
    let mut open = vec![core];
    while let Some(next) = open.pop() {
        for ty in fields.structs[next].fields.iter().filter_map(|(_, ty)| ty.as_ref()) {
            if !fields.structs[ty].is_public_data && ty != core && parts.insert(ty.clone()) {
                open.push(ty);
            }
        }
    }
    parts
}
