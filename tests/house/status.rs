//! How many places name a field of the node's status, that is: how many must be edited to add one.
//!
//! A place is a function, a type or another item that names the field, in snake or camel case, as a whole word, with a
//! getter's or setter's prefix or without, as an identifier or as a string; in the schema it is the declaration. Several
//! mentions in one function are one place. In the modules that make the figures (`sync`, `store`, `node`) a figure of the
//! same name may be on its way from one to the other, so a place counts there only if it also names a type that ends in
//! `Status`. Everything above them has the figure from the status alone, and so every place counts.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::source::tree::SourceFile;

pub const SCHEMA: &str = "schema/blocksync.capnp";

/// Fields that stand for all those with a row of text of their own, as a new one would have.
pub const PLAIN: &[&str] = &["held_blocks", "open_requests", "pending_sightings"];
/// Fields whose row of text tells several of them together: that row is one more place.
pub const COMPOSED: &[&str] = &["history_unavailable", "stored_bytes"];

const MAKERS: &[&str] = &["src/sync/", "src/store/", "src/node/"];

const PREFIXES: &[&str] = &["get_", "set_", "init_", "has_", "with_"];

/// A place: its file, its name, and the row in which it begins.
pub type Place = (String, String, usize);

/// The places that name `field`.
pub fn places(field: &str, schema: &str, files: &[SourceFile]) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    for (row, line) in (1..).zip(schema.lines()) {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if words.next() == Some(&camel(field)) && words.next().is_some_and(|word| word.starts_with('@')) {
            places.insert((SCHEMA.to_owned(), camel(field), row));
        }
    }
    for file in files {
        let mut reader = Reader { field, camel: camel(field), open: Vec::new(), found: Vec::new() };
        reader.visit_file(&file.code);
        let makes = MAKERS.iter().any(|maker| file.name.starts_with(maker));
        let counts = reader.found.into_iter().filter(|open| open.mentions && (!makes || open.names_status));
        places.extend(counts.map(|open| (file.name.clone(), open.name, open.line)));
    }
    places
}

fn camel(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| {
        let (initial, rest) = word.split_at(word.len().min(1));
        camel + &initial.to_uppercase() + rest
    })
}

/// An item that is being read.
#[derive(Debug)]
struct Open {
    name: String,
    line: usize,
    mentions: bool,
    names_status: bool,
}

struct Reader<'a> {
    field: &'a str,
    camel: String,
    /// From the outermost to the innermost.
    open: Vec<Open>,
    found: Vec<Open>,
}

impl Reader<'_> {
    fn place(&mut self, ident: &syn::Ident, walk: impl FnOnce(&mut Self)) {
        let line = ident.span().start().line;
        self.open.push(Open { name: ident.to_string(), line, mentions: false, names_status: false });
        walk(self);
        self.found.extend(self.open.pop());
    }

    fn note_word(&mut self, word: &str) {
        let Some(open) = self.open.last_mut() else { return };
        let bare = PREFIXES.iter().find_map(|prefix| word.strip_prefix(prefix)).unwrap_or(word);
        open.mentions |= bare == self.field || bare == self.camel;
        open.names_status |= word.ends_with("Status");
    }

    fn note_tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => self.note_word(&ident.to_string()),
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                        self.note_word(&text.value());
                    }
                }
                TokenTree::Punct(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.place(&item.sig.ident, |reader| visit::visit_item_fn(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.place(&item.sig.ident, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.place(&item.sig.ident, |reader| visit::visit_trait_item_fn(reader, item));
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.place(&item.ident, |reader| visit::visit_item_struct(reader, item));
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.place(&item.ident, |reader| visit::visit_item_enum(reader, item));
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.place(&item.ident, |reader| visit::visit_item_const(reader, item));
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.place(&item.ident, |reader| visit::visit_item_static(reader, item));
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.place(&item.ident, |reader| visit::visit_impl_item_const(reader, item));
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let name = item.ident.as_ref().or_else(|| item.mac.path.segments.last().map(|last| &last.ident));
        if let Some(name) = name {
            self.place(name, |reader| reader.note_tokens(item.mac.tokens.clone()));
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.note_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.note_tokens(list.tokens.clone());
        }
    }

    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        self.note_word(&ident.to_string());
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.note_word(&text.value());
    }
}
