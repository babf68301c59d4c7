//! The hand-written files under `src/`, parsed, each with and without what only tests need.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::punctuated::Punctuated;

/// Made from the schema: nobody writes it, and nothing here judges it.
const GENERATED: &str = "src/api/blocksync_capnp.rs";

/// One file of the program.
pub struct SourceFile {
    /// Its path below the package, such as `src/sync/fetch.rs`.
    pub name: String,
    /// From the crate's root: `["sync", "fetch"]`.
    pub module: Vec<String>,
    /// Without tests: no item under `#[cfg(test)]`, no `#[test]`, no `mod tests`.
    pub code: syn::File,
}

/// The names and texts of a package's files, in order.
pub fn read(package: &Path) -> Vec<(String, String)> {
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(package).expect("found below the package").to_string_lossy().replace('\\', "/");
        (name, fs::read_to_string(path).expect("a source file is UTF-8"))
    };
    rust_files(&package.join("src")).iter().map(read).filter(|(name, _)| name != GENERATED).collect()
}

/// Parses files; those that are only compiled for tests are left out.
pub fn parse(texts: &[(String, String)]) -> Result<Vec<SourceFile>, String> {
    let mut files = Vec::new();
    let mut for_tests = BTreeSet::new();
    for (name, text) in texts {
        let whole = syn::parse_file(text).map_err(|error| format!("{name}: it does not parse: {error}"))?;
        let module = module_of(name).ok_or_else(|| format!("{name} is not where a module can be"))?;
        let modules = whole.items.iter().filter_map(|item| match item {
            syn::Item::Mod(module) if is_for_tests(item) => Some(module.ident.to_string()),
            _ => None,
        });
        for_tests.extend(modules.map(|child| [module.as_slice(), &[child]].concat()));
        let code = syn::File { items: without_tests(whole.items), ..whole };
        files.push(SourceFile { name: name.clone(), module, code });
    }
    files.retain(|file| !for_tests.iter().any(|tests| file.module.starts_with(tests)));
    Ok(files)
}

/// All Rust files below `dir`, in order.
pub fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("the source directory can be listed") {
        let path = entry.expect("a directory entry can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The module path of a file: `src/sync/fetch.rs` is `["sync", "fetch"]`, and a crate's root, such as `src/main.rs`, is
/// `[]`.
pub fn module_of(file: &str) -> Option<Vec<String>> {
    let path = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    if matches!(path, "lib" | "main") {
        return Some(Vec::new());
    }
    let mut module: Vec<_> = path.split('/').map(str::to_owned).collect();
    if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    Some(module)
}

fn without_tests(items: Vec<syn::Item>) -> Vec<syn::Item> {
    let kept = items.into_iter().filter(|item| !is_for_tests(item));
    kept.map(|mut item| {
        match &mut item {
            syn::Item::Mod(module) => {
                if let Some((_, items)) = &mut module.content {
                    *items = without_tests(std::mem::take(items));
                }
            }
            syn::Item::Impl(item) => item.items.retain(|item| !are_for_tests(attributes_of_impl_item(item))),
            syn::Item::Trait(item) => item.items.retain(|item| !are_for_tests(attributes_of_trait_item(item))),
            syn::Item::Struct(item) => {
                if let syn::Fields::Named(fields) = &mut item.fields {
                    let named = std::mem::take(&mut fields.named);
                    fields.named = named.into_iter().filter(|field| !are_for_tests(&field.attrs)).collect();
                }
            }
            _ => {}
        }
        item
    })
    .collect()
}

fn is_for_tests(item: &syn::Item) -> bool {
    are_for_tests(attributes_of(item)) || matches!(item, syn::Item::Mod(module) if module.ident == "tests")
}

fn are_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.parse_args().is_ok_and(|meta| is_test_only(&meta)),
        meta => meta.path().segments.last().is_some_and(|last| last.ident == "test"),
    })
}

/// Whether this condition holds in tests alone.
fn is_test_only(condition: &syn::Meta) -> bool {
    match condition {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) => {
            let parts = list.parse_args_with(Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated);
            let parts = parts.unwrap_or_default();
            match list.path.get_ident().map(ToString::to_string).as_deref() {
                Some("all") => parts.iter().any(is_test_only),
                Some("any") => !parts.is_empty() && parts.iter().all(is_test_only),
                _ => false,
            }
        }
        syn::Meta::NameValue(_) => false,
    }
}

fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::ExternCrate(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn attributes_of_impl_item(item: &syn::ImplItem) -> &[syn::Attribute] {
    match item {
        syn::ImplItem::Const(item) => &item.attrs,
        syn::ImplItem::Fn(item) => &item.attrs,
        syn::ImplItem::Type(item) => &item.attrs,
        syn::ImplItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

fn attributes_of_trait_item(item: &syn::TraitItem) -> &[syn::Attribute] {
    match item {
        syn::TraitItem::Const(item) => &item.attrs,
        syn::TraitItem::Fn(item) => &item.attrs,
        syn::TraitItem::Type(item) => &item.attrs,
        syn::TraitItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}
