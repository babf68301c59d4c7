//! Names that stand for more than one type.
//!
//! A type is a struct, enum, union, trait or type alias that has a name of its own, wherever it is declared; associated types
//! have none.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use crate::source::tree::SourceFile;

/// Each name of a type, and the files that declare one of that name, once for each type.
pub fn types(files: &[SourceFile]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in files {
        let mut reader = Reader::default();
        reader.visit_file(&file.code);
        for name in reader.names {
            all.entry(name).or_default().push(file.name.clone());
        }
    }
    all
}

#[derive(Default)]
struct Reader {
    names: Vec<String>,
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.names.push(item.ident.to_string());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.names.push(item.ident.to_string());
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.names.push(item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.names.push(item.ident.to_string());
        visit::visit_item_trait(self, item); // its default methods may declare types
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.names.push(item.ident.to_string());
    }
}
