//! What is counted of functions: their lengths, and what their signatures say.
//!
//! A function is `fn` with a name: free, of an `impl` or of a trait; closures are none. Its length is the rows from the one
//! with `fn` to the one with its closing brace, so attributes and documentation do not count, and what is inside of it does.
//! What macros define is not seen.

use syn::visit::{self, Visit};

use crate::source::tree::SourceFile;

/// A method whose name begins with one of these words asks something, and asking changes nothing. Auxiliaries, which leave no
/// doubt, and verbs that would state a fact of a thing that is not the one who acts (`contains`, `lacks`).
const QUESTIONS: &[&str] = &[
    "are", "can", "could", "did", "does", "had", "has", "have", "is", "may", "might", "must", "need", "needs", "shall",
    "should", "was", "were", "will", "would", "contains", "exists", "fits", "knows", "lacks", "wants",
];

#[derive(Debug, Default)]
pub struct Function {
    /// `Type::name` for methods.
    pub name: String,
    pub file: String,
    pub line: usize,
    /// `None`: declared only.
    pub lines: Option<usize>,
    /// Parameters of type `bool`, by reference or not.
    pub bools: usize,
    /// Takes `&mut self`.
    pub mutates: bool,
    pub returns_bool: bool,
    pub asks: bool,
    /// There is a `Result<_, String>` in its signature.
    pub string_error: bool,
}

impl Function {
    pub fn place(&self) -> String {
        format!("{} ({}:{})", self.name, self.file, self.line)
    }
}

pub fn functions(files: &[SourceFile]) -> Vec<Function> {
    let mut all = Vec::new();
    for file in files {
        let mut reader = Reader { file: &file.name, owner: String::new(), functions: Vec::new() };
        reader.visit_file(&file.code);
        all.append(&mut reader.functions);
    }
    all
}

struct Reader<'a> {
    file: &'a str,
    /// The type or trait whose items are read.
    owner: String,
    functions: Vec<Function>,
}

impl Reader<'_> {
    fn note(&mut self, owner: Option<&str>, signature: &syn::Signature, body: Option<&syn::Block>) {
        let name = signature.ident.to_string();
        let line = signature.fn_token.span.start().line;
        let typed = signature.inputs.iter().filter_map(|input| match input {
            syn::FnArg::Typed(input) => Some(&*input.ty),
            syn::FnArg::Receiver(_) => None,
        });
        let mut results = Results::default();
        results.visit_signature(signature);
        self.functions.push(Function {
            asks: name.split('_').next().is_some_and(|first| QUESTIONS.contains(&first)),
            name: owner.map_or(name.clone(), |owner| format!("{owner}::{name}")),
            file: self.file.to_owned(),
            line,
            lines: body.map(|body| body.brace_token.span.close().end().line + 1 - line),
            bools: typed.filter(|ty| is_bool(ty)).count(),
            mutates: signature.receiver().is_some_and(|receiver| takes_mutably(&receiver.ty)),
            returns_bool: matches!(&signature.output, syn::ReturnType::Type(_, ty) if is_bool(ty)),
            string_error: !results.string_errors.is_empty(),
        });
    }

    fn inside(&mut self, owner: String, walk: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.owner, owner);
        walk(self);
        self.owner = outer;
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let owner = last_word(&item.self_ty).unwrap_or_else(|| "_".to_owned());
        self.inside(owner, |reader| visit::visit_item_impl(reader, item));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.inside(item.ident.to_string(), |reader| visit::visit_item_trait(reader, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(None, &item.sig, Some(&item.block));
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(Some(&self.owner.clone()), &item.sig, Some(&item.block));
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.note(Some(&self.owner.clone()), &item.sig, item.default.as_ref());
        visit::visit_trait_item_fn(self, item);
    }
}

/// The lines with certain kinds of `Result`, wherever they are written: in signatures, fields, aliases, expressions.
#[derive(Debug, Default)]
pub struct Results {
    /// `Result<_, ()>`.
    pub unit_errors: Vec<usize>,
    /// `Result<_, String>`.
    pub string_errors: Vec<usize>,
    /// `Result<Result<_>>`.
    pub nested: Vec<usize>,
}

impl Results {
    pub fn of(code: &syn::File) -> Self {
        let mut results = Self::default();
        results.visit_file(code);
        results
    }
}

impl<'ast> Visit<'ast> for Results {
    fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
        if let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments
            && segment.ident == "Result"
        {
            let line = segment.ident.span().start().line;
            let mut types = arguments.args.iter().filter_map(|argument| match argument {
                syn::GenericArgument::Type(ty) => Some(ty),
                _ => None,
            });
            if types.next().and_then(last_word).is_some_and(|word| word == "Result") {
                self.nested.push(line);
            }
            match types.next() {
                Some(syn::Type::Tuple(tuple)) if tuple.elems.is_empty() => self.unit_errors.push(line),
                Some(ty) if last_word(ty).is_some_and(|word| word == "String") => self.string_errors.push(line),
                _ => {}
            }
        }
        visit::visit_path_segment(self, segment);
    }
}

/// The last word of a type that is a path.
pub fn last_word(ty: &syn::Type) -> Option<String> {
    match ty {
        syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        syn::Type::Paren(inner) => last_word(&inner.elem),
        syn::Type::Group(inner) => last_word(&inner.elem),
        _ => None,
    }
}

fn is_bool(ty: &syn::Type) -> bool {
    match ty {
        syn::Type::Reference(reference) => is_bool(&reference.elem),
        _ => last_word(ty).is_some_and(|word| word == "bool"),
    }
}

/// Whether a receiver of this type is `&mut self`, in a `Pin` or not.
fn takes_mutably(ty: &syn::Type) -> bool {
    match ty {
        syn::Type::Reference(reference) => reference.mutability.is_some(),
        syn::Type::Path(path) => path.path.segments.last().is_some_and(|last| match &last.arguments {
            syn::PathArguments::AngleBracketed(arguments) => arguments
                .args
                .iter()
                .any(|argument| matches!(argument, syn::GenericArgument::Type(ty) if takes_mutably(ty))),
            _ => false,
        }),
        _ => false,
    }
}
