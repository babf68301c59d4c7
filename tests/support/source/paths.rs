//! Reads every path out of a file, and resolves each as far as names alone allow.
//!
//! Read are: `use` trees, paths of expressions, types, patterns, traits and attributes, strings in attributes that are
//! paths, and the token streams of macros, both called and defined. A resolved path starts with `crate` (ours) or with
//! the name that it was written with (a foreign crate, or something local that no rule knows).

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Spacing, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Something that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Never empty; the first segment is `crate`, or as it was written.
    pub path: Vec<String>,
    /// `use path::*`.
    pub glob: bool,
    /// The name that it brings into scope, if it is a `use`...
    pub binds: Option<String>,
    /// ...and the module in which it stands.
    pub module: Vec<String>,
    pub line: usize,
}

/// What is in a file.
#[derive(Debug, Default)]
pub struct Found {
    pub named: Vec<Named>,
    /// What cannot be judged: its line, and why not.
    pub refused: Vec<(usize, String)>,
}

/// Reads a file whose module path, from the crate's root, is `module`.
pub fn read(module: &[String], syntax: &syn::File) -> Found {
    let mut reader = Reader { module: module.to_vec(), ..Reader::default() };
    reader.visit_file(syntax);
    let mut bound = Bound::new();
    for written in &reader.written {
        if let Some(name) = &written.binds {
            bound.entry(name).or_default().push(written);
        }
    }
    let mut found = Found::default();
    for written in &reader.written {
        let paths = written.resolve(&bound, &reader.children, MAX_RENAMINGS);
        found.named.extend(paths.into_iter().map(|path| Named {
            path,
            glob: written.glob,
            binds: written.binds.clone(),
            module: written.module.clone(),
            line: written.line,
        }));
    }
    found.refused = reader.refused;
    found
}

/// A path as it was written.
#[derive(Clone, Debug, Default)]
struct Written {
    /// The module that it stands in.
    module: Vec<String>,
    /// `::path`: certainly a foreign crate's.
    absolute: bool,
    segments: Vec<String>,
    glob: bool,
    /// The name that it brings into scope, if it is a `use`.
    binds: Option<String>,
    line: usize,
}

/// The names that a file's `use` items bind. Scopes are not told apart: a name that is bound twice means both.
type Bound<'a> = BTreeMap<&'a str, Vec<&'a Written>>;

/// More renamings of renamings than anybody writes.
const MAX_RENAMINGS: u8 = 8;

impl Written {
    fn resolve(&self, bound: &Bound<'_>, children: &BTreeSet<Vec<String>>, renamings: u8) -> Vec<Vec<String>> {
        let Some((first, rest)) = self.segments.split_first() else { return Vec::new() };
        match first.as_str() {
            "crate" | "blocksyncd" => return vec![from_root(rest)],
            _ if self.absolute => return vec![self.segments.clone()],
            "self" | "super" => return vec![self.relative()],
            _ => {}
        }
        if let Some(imports) = bound.get(first.as_str())
            && self.binds.as_ref() != Some(first)
            && renamings > 0
        {
            let targets = imports.iter().flat_map(|import| import.resolve(bound, children, renamings - 1));
            return targets.map(|target| [&target, rest].concat()).collect();
        }
        if children.contains(&[self.module.as_slice(), std::slice::from_ref(first)].concat()) {
            return vec![from_root(&[self.module.as_slice(), &self.segments].concat())];
        }
        vec![self.segments.clone()]
    }

    /// Resolves `self::` and `super::`.
    fn relative(&self) -> Vec<String> {
        from_module(&self.module, &self.segments)
    }
}

/// The path from the crate's root of what is written as `segments` in `module`, where they begin with `self`, `super`, or a name
/// of the module's own.
pub fn from_module(module: &[String], segments: &[String]) -> Vec<String> {
    let mut module = module.to_vec();
    let mut rest = segments;
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "self" => {}
            "super" => drop(module.pop()),
            _ => break,
        }
        rest = after;
    }
    module.extend_from_slice(rest);
    from_root(&module)
}

fn from_root(rest: &[String]) -> Vec<String> {
    std::iter::once("crate".to_owned()).chain(rest.iter().cloned()).collect()
}

/// Walks a file.
#[derive(Default)]
struct Reader {
    module: Vec<String>,
    /// The modules that the file declares.
    children: BTreeSet<Vec<String>>,
    written: Vec<Written>,
    refused: Vec<(usize, String)>,
}

impl Reader {
    fn at(&self, span: Span) -> Written {
        Written { module: self.module.clone(), line: span.start().line, ..Written::default() }
    }

    fn refuse(&mut self, span: Span, why: &str) {
        self.refused.push((span.start().line, why.to_owned()));
    }

    /// A path in use. One segment alone is a variable, a name of the prelude, or an import that is seen where it is made.
    fn note_path(&mut self, absolute: bool, segments: Vec<String>, span: Span) {
        if absolute || segments.len() > 1 {
            self.written.push(Written { absolute, segments, ..self.at(span) });
        }
    }

    fn note_use(&mut self, absolute: bool, prefix: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| {
            let name = ident.to_string();
            if name == "self" && !prefix.is_empty() { prefix.to_vec() } else { [prefix, &[name]].concat() }
        };
        let (segments, binds, glob, span) = match tree {
            syn::UseTree::Path(path) => return self.note_use(absolute, &with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|item| self.note_use(absolute, prefix, item));
            }
            syn::UseTree::Name(name) => {
                let segments = with(&name.ident);
                let binds = segments.last().cloned();
                (segments, binds, false, name.ident.span())
            }
            syn::UseTree::Rename(rename) => {
                (with(&rename.ident), Some(rename.rename.to_string()), false, rename.ident.span())
            }
            syn::UseTree::Glob(glob) => (prefix.to_vec(), None, true, glob.star_token.span),
        };
        self.written.push(Written { absolute, segments, glob, binds, ..self.at(span) });
    }

    /// Paths in tokens that nobody has parsed yet.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut next = 0;
        while next < tokens.len() {
            match &tokens[next] {
                TokenTree::Ident(_) => next = self.note_token_path(&tokens, next, &[]),
                TokenTree::Group(group) => {
                    self.note_tokens(group.stream());
                    next += 1;
                }
                _ => next += 1,
            }
        }
    }

    /// Reads the path that starts with the identifier at `start`, below `prefix`; returns where to go on.
    fn note_token_path(&mut self, tokens: &[TokenTree], start: usize, prefix: &[String]) -> usize {
        let mut segments = prefix.to_vec();
        let mut next = start;
        let span = tokens[start].span();
        let absolute = prefix.is_empty() && start >= 2 && is_colons(tokens, start - 2);
        while let Some(TokenTree::Ident(ident)) = tokens.get(next) {
            segments.push(ident.to_string());
            next += 1;
            if !is_colons(tokens, next) {
                break;
            }
            match tokens.get(next + 2) {
                Some(TokenTree::Ident(_)) => next += 2,
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.note_token_group(group.stream(), &segments);
                    return next + 3;
                }
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                    self.written.push(Written { absolute, segments, glob: true, ..self.at(span) });
                    return next + 3;
                }
                _ => break,
            }
        }
        let imported = start > 0 && matches!(&tokens[start - 1], TokenTree::Ident(ident) if ident == "use");
        if imported {
            self.written.push(Written { absolute, segments, ..self.at(span) });
        } else {
            self.note_path(absolute, segments, span);
        }
        next
    }

    /// The `{a, b::c}` of a `use` in a macro.
    fn note_token_group(&mut self, tokens: TokenStream, prefix: &[String]) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut next = 0;
        while next < tokens.len() {
            next = match &tokens[next] {
                TokenTree::Ident(_) => self.note_token_path(&tokens, next, prefix),
                TokenTree::Group(group) => {
                    self.note_token_group(group.stream(), prefix);
                    next + 1
                }
                _ => next + 1,
            };
        }
    }
}

/// Whether there is `::` at `at`.
fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| match tokens.get(at) {
        Some(TokenTree::Punct(punct)) if punct.as_char() == ':' => Some(punct.spacing()),
        _ => None,
    };
    colon(at) == Some(Spacing::Joint) && colon(at + 1).is_some()
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(item.leading_colon.is_some(), &[], &item.tree);
        visit::visit_item_use(self, item);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let name = item.ident.to_string();
        let binds = item.rename.as_ref().map_or(&item.ident, |(_, rename)| rename).to_string();
        if name == "self" {
            self.refuse(item.ident.span(), "the crate under another name: layers could not be told apart");
        }
        self.written.push(Written {
            absolute: true,
            segments: vec![name],
            binds: Some(binds),
            ..self.at(item.ident.span())
        });
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if let Some(attribute) = item.attrs.iter().find(|attribute| attribute.path().is_ident("path")) {
            self.refuse(attribute.pound_token.span, "`#[path]`: a module's name must say where its file is");
        }
        self.module.push(item.ident.to_string());
        self.children.insert(self.module.clone());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    /// `pub(crate)` and the like depend on nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first() {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.note_path(path.leading_colon.is_some(), segments, first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if call.path.is_ident("include") {
            self.refuse(call.bang_token.span, "`include!`: what it brings in is not read here; make it a module");
        }
        self.note_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("doc") {
            return; // links in comments are for readers
        }
        if let syn::Meta::List(list) = &attribute.meta {
            self.note_tokens(list.tokens.clone());
            self.note_strings(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }
}

impl Reader {
    /// Attributes such as serde's give paths as strings.
    fn note_strings(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.note_strings(group.stream()),
                TokenTree::Literal(literal) => {
                    let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                    if let Some(path) = text.ok().and_then(|text| text.parse::<syn::Path>().ok()) {
                        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                        self.note_path(path.leading_colon.is_some(), segments, literal.span());
                    }
                }
                _ => {}
            }
        }
    }
}
