//! Who names which field of which struct, as far as names and declared types alone tell.
//!
//! Followed are: `self`, parameters, `let` with a type or from an expression whose type is known (a field, a reference, a
//! constructor, a method whose declared result is a struct), and patterns that take a struct apart. What closures, generics,
//! iterators and collections hand over has no known type here, and is nobody's. In macros, chains of words (`self.chain.heads`)
//! are read and nothing else. Fields without a name (`self.0`) do not count.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::source::names::{Definition, Names};
use crate::source::paths;
use crate::source::tree::SourceFile;

/// A struct: the file that defines it, and its name.
pub type Key = Definition;

/// A struct as it is declared.
#[derive(Debug)]
pub struct Declared {
    /// In order; with its type, if that is a struct that is known here.
    pub fields: Vec<(String, Option<Key>)>,
    /// `pub`, and so is every field: data for everybody.
    pub is_public_data: bool,
}

/// A field that a file names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    pub of: Key,
    pub field: String,
    pub file: usize,
    /// In an `impl` of that struct, through `self`.
    pub through_self: bool,
}

/// Everything that is found out about a set of files.
#[derive(Debug, Default)]
pub struct Fields {
    pub structs: BTreeMap<Key, Declared>,
    /// What a method returns, by its struct and name.
    results: BTreeMap<(Key, String), Key>,
    pub accesses: BTreeSet<Access>,
    /// The files with an `impl` of a struct.
    pub impls: BTreeMap<Key, BTreeSet<usize>>,
}

impl Fields {
    /// Reads those of `files` whose name begins with `folder`.
    pub fn of(files: &[SourceFile], names: &Names, folder: &str) -> Self {
        let mut fields = Self::default();
        for pass in [Pass::Structs, Pass::Results, Pass::Accesses] {
            for (index, file) in files.iter().enumerate().filter(|(_, file)| file.name.starts_with(folder)) {
                let module = file.module.clone();
                let fields = &mut fields;
                Reader { names, fields, file: index, module, own: None, scopes: Vec::new(), pass }
                    .visit_file(&file.code);
            }
        }
        // A field's type may be declared in a later file than the struct.
        let known: BTreeSet<_> = fields.structs.keys().cloned().collect();
        for declared in fields.structs.values_mut() {
            for (_, ty) in &mut declared.fields {
                ty.take_if(|ty| !known.contains(ty));
            }
        }
        fields
    }

    /// The struct of this name, if there is exactly one.
    pub fn find(&self, name: &str) -> Option<&Key> {
        let mut found = self.structs.keys().filter(|key| key.item.as_deref() == Some(name));
        found.next().filter(|_| found.next().is_none())
    }

    fn type_of_field(&self, of: &Key, field: &str) -> Option<Key> {
        let (_, ty) = self.structs.get(of)?.fields.iter().find(|(name, _)| name == field)?;
        ty.clone()
    }
}

/// What is read, one after the other, since each needs what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Structs,
    Results,
    Accesses,
}

struct Reader<'a> {
    names: &'a Names,
    fields: &'a mut Fields,
    file: usize,
    module: Vec<String>,
    /// What `Self` is.
    own: Option<Key>,
    /// The types of the variables; `None`: not known.
    scopes: Vec<BTreeMap<String, Option<Key>>>,
    pass: Pass,
}

impl Reader<'_> {
    /// The struct that a path names.
    fn find(&self, path: &syn::Path) -> Option<Key> {
        if path.is_ident("Self") {
            return self.own.clone();
        }
        let words: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.names.definitions(&self.rooted(&words)).into_iter().find(|key| key.item.is_some())
    }

    /// The path from the crate's root.
    fn rooted(&self, words: &[String]) -> Vec<String> {
        if words.first().is_some_and(|first| first == "crate") {
            return words.to_vec();
        }
        paths::from_module(&self.module, words)
    }

    /// The struct behind a type: itself, by reference, or in what is used as if it were the struct.
    fn behind(&self, ty: &syn::Type) -> Option<Key> {
        match ty {
            syn::Type::Reference(reference) => self.behind(&reference.elem),
            syn::Type::Paren(inner) => self.behind(&inner.elem),
            syn::Type::Group(inner) => self.behind(&inner.elem),
            syn::Type::Path(path) => {
                let last = path.path.segments.last()?;
                match (&last.arguments, last.ident.to_string().as_str()) {
                    (
                        syn::PathArguments::AngleBracketed(arguments),
                        "Arc" | "Box" | "Option" | "Rc" | "RefMut" | "Ref",
                    ) => arguments.args.iter().find_map(|argument| match argument {
                        syn::GenericArgument::Type(ty) => self.behind(ty),
                        _ => None,
                    }),
                    _ => self.find(&path.path),
                }
            }
            _ => None,
        }
    }

    fn variable(&self, name: &str) -> Option<Key> {
        if name == "self" {
            return self.own.clone();
        }
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).cloned().flatten()
    }

    fn type_of(&self, expression: &syn::Expr) -> Option<Key> {
        match expression {
            syn::Expr::Path(path) => self.variable(&path.path.get_ident()?.to_string()),
            syn::Expr::Field(field) => {
                let syn::Member::Named(name) = &field.member else { return None };
                self.fields.type_of_field(&self.type_of(&field.base)?, &name.to_string())
            }
            syn::Expr::MethodCall(call) => {
                let receiver = self.type_of(&call.receiver)?;
                match call.method.to_string().as_str() {
                    "as_mut" | "as_ref" | "borrow" | "borrow_mut" | "clone" => Some(receiver),
                    method => self.fields.results.get(&(receiver, method.to_owned())).cloned(),
                }
            }
            syn::Expr::Call(call) => {
                let syn::Expr::Path(function) = &*call.func else { return None };
                let mut path = function.path.clone();
                let method = path.segments.pop()?.into_value().ident.to_string();
                path.segments.pop_punct();
                self.fields.results.get(&(self.find(&path)?, method)).cloned()
            }
            syn::Expr::Struct(literal) => self.find(&literal.path),
            syn::Expr::Reference(inner) => self.type_of(&inner.expr),
            syn::Expr::Paren(inner) => self.type_of(&inner.expr),
            syn::Expr::Group(inner) => self.type_of(&inner.expr),
            syn::Expr::Unary(inner) => self.type_of(&inner.expr),
            syn::Expr::Try(inner) => self.type_of(&inner.expr),
            _ => None,
        }
    }

    fn note(&mut self, of: Option<Key>, field: &str, through_self: bool) {
        let known =
            |of: &Key| self.fields.structs.get(of).is_some_and(|it| it.fields.iter().any(|(name, _)| name == field));
        if let Some(of) = of.filter(known)
            && self.pass == Pass::Accesses
        {
            self.fields.accesses.insert(Access { of, field: field.to_owned(), file: self.file, through_self });
        }
    }

    fn scoped(&mut self, walk: impl FnOnce(&mut Self)) {
        self.scopes.push(BTreeMap::new());
        walk(self);
        self.scopes.pop();
    }

    fn bind(&mut self, pattern: &syn::Pat, ty: Option<Key>) {
        match pattern {
            syn::Pat::Ident(pattern) => {
                if let Some((_, inner)) = &pattern.subpat {
                    self.bind(inner, ty.clone());
                }
                if let Some(scope) = self.scopes.last_mut() {
                    scope.insert(pattern.ident.to_string(), ty);
                }
            }
            syn::Pat::Type(pattern) => {
                let ty = self.behind(&pattern.ty);
                self.bind(&pattern.pat, ty);
            }
            syn::Pat::Reference(pattern) => self.bind(&pattern.pat, ty),
            syn::Pat::Paren(pattern) => self.bind(&pattern.pat, ty),
            syn::Pat::Struct(pattern) => {
                let of = self.find(&pattern.path);
                for field in &pattern.fields {
                    let syn::Member::Named(name) = &field.member else { continue };
                    let name = name.to_string();
                    self.note(of.clone(), &name, false);
                    let ty = of.as_ref().and_then(|of| self.fields.type_of_field(of, &name));
                    self.bind(&field.pat, ty);
                }
            }
            // `Some(chain)`: as `Option` is looked through, so is this.
            syn::Pat::TupleStruct(pattern) if pattern.path.is_ident("Some") => {
                pattern.elems.iter().for_each(|inner| self.bind(inner, ty.clone()));
            }
            syn::Pat::TupleStruct(pattern) => pattern.elems.iter().for_each(|inner| self.bind(inner, None)),
            syn::Pat::Tuple(pattern) => pattern.elems.iter().for_each(|inner| self.bind(inner, None)),
            syn::Pat::Slice(pattern) => pattern.elems.iter().for_each(|inner| self.bind(inner, None)),
            syn::Pat::Or(pattern) => pattern.cases.iter().for_each(|case| self.bind(case, ty.clone())),
            _ => {}
        }
    }

    /// Binds what an expression is taken apart into; tuples in pairs.
    fn bind_to(&mut self, pattern: &syn::Pat, expression: &syn::Expr) {
        match (pattern, expression) {
            (syn::Pat::Tuple(patterns), syn::Expr::Tuple(values)) if patterns.elems.len() == values.elems.len() => {
                for (pattern, value) in patterns.elems.iter().zip(&values.elems) {
                    self.bind_to(pattern, value);
                }
            }
            _ => {
                let ty = self.type_of(expression);
                self.bind(pattern, ty);
            }
        }
    }

    fn function(&mut self, signature: &syn::Signature, body: impl FnOnce(&mut Self)) {
        if let (Pass::Results, Some(own), syn::ReturnType::Type(_, ty)) =
            (self.pass, self.own.clone(), &signature.output)
            && let Some(result) = self.behind(ty)
        {
            self.fields.results.insert((own, signature.ident.to_string()), result);
        }
        self.scoped(|reader| {
            for input in &signature.inputs {
                if let syn::FnArg::Typed(input) = input {
                    let ty = reader.behind(&input.ty);
                    reader.bind(&input.pat, ty);
                }
            }
            body(reader);
        });
    }

    /// Chains of words in a macro: `self.chain.heads`.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let is_dot = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(dot)) if dot.as_char() == '.');
        let mut next = 0;
        while next < tokens.len() {
            match &tokens[next] {
                TokenTree::Ident(first) if next == 0 || !is_dot(next - 1) => {
                    let mut ty = self.variable(&first.to_string());
                    let mut through_self = first == "self";
                    while let (true, Some(TokenTree::Ident(field))) = (is_dot(next + 1), tokens.get(next + 2)) {
                        if matches!(tokens.get(next + 3), Some(TokenTree::Group(_))) {
                            break; // a call
                        }
                        let field = field.to_string();
                        self.note(ty.clone(), &field, through_self);
                        ty = ty.and_then(|ty| self.fields.type_of_field(&ty, &field));
                        through_self = false;
                        next += 2;
                    }
                }
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                _ => {}
            }
            next += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        if self.pass != Pass::Structs {
            return;
        }
        let is_public = |visibility: &syn::Visibility| matches!(visibility, syn::Visibility::Public(_));
        let syn::Fields::Named(named) = &item.fields else { return };
        let fields =
            named.named.iter().filter_map(|field| Some((field.ident.as_ref()?.to_string(), self.behind(&field.ty))));
        let is_public_data = is_public(&item.vis) && named.named.iter().all(|field| is_public(&field.vis));
        let declared = Declared { fields: fields.collect(), is_public_data };
        self.fields.structs.insert(Key { file: self.file, item: Some(item.ident.to_string()) }, declared);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let own = self.behind(&item.self_ty);
        let outer = std::mem::replace(&mut self.own, own);
        if let (Pass::Accesses, Some(own)) = (self.pass, &self.own) {
            self.fields.impls.entry(own.clone()).or_default().insert(self.file);
        }
        visit::visit_item_impl(self, item);
        self.own = outer;
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let outer = self.own.take();
        visit::visit_item_trait(self, item);
        self.own = outer;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        // Sees neither `self` nor the variables around it, nor has it a struct's method's name.
        let outer = (self.own.take(), std::mem::take(&mut self.scopes));
        self.function(&item.sig, |reader| reader.visit_block(&item.block));
        (self.own, self.scopes) = outer;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, |reader| reader.visit_block(&item.block));
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.scoped(|reader| visit::visit_block(reader, block));
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let Some(init) = &local.init {
            self.visit_local_init(init);
            self.bind_to(&local.pat, &init.expr);
        } else {
            self.bind(&local.pat, None);
        }
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        self.scoped(|reader| {
            closure.inputs.iter().for_each(|input| reader.bind(input, None));
            reader.visit_expr(&closure.body);
        });
    }

    fn visit_expr_if(&mut self, branch: &'ast syn::ExprIf) {
        self.scoped(|reader| {
            reader.visit_expr(&branch.cond);
            reader.visit_block(&branch.then_branch);
        });
        if let Some((_, other)) = &branch.else_branch {
            self.visit_expr(other);
        }
    }

    fn visit_expr_while(&mut self, repeat: &'ast syn::ExprWhile) {
        self.scoped(|reader| visit::visit_expr_while(reader, repeat));
    }

    fn visit_expr_let(&mut self, condition: &'ast syn::ExprLet) {
        self.visit_expr(&condition.expr);
        self.bind_to(&condition.pat, &condition.expr);
    }

    fn visit_expr_for_loop(&mut self, repeat: &'ast syn::ExprForLoop) {
        self.visit_expr(&repeat.expr);
        self.scoped(|reader| {
            reader.bind(&repeat.pat, None);
            reader.visit_block(&repeat.body);
        });
    }

    fn visit_expr_match(&mut self, expression: &'ast syn::ExprMatch) {
        self.visit_expr(&expression.expr);
        for arm in &expression.arms {
            self.scoped(|reader| {
                reader.bind_to(&arm.pat, &expression.expr);
                arm.guard.iter().for_each(|(_, guard)| reader.visit_expr(guard));
                reader.visit_expr(&arm.body);
            });
        }
    }

    fn visit_expr_field(&mut self, access: &'ast syn::ExprField) {
        if let syn::Member::Named(name) = &access.member {
            let through_self = matches!(&*access.base, syn::Expr::Path(path) if path.path.is_ident("self"));
            self.note(self.type_of(&access.base), &name.to_string(), through_self);
        }
        visit::visit_expr_field(self, access);
    }

    fn visit_expr_struct(&mut self, literal: &'ast syn::ExprStruct) {
        let of = self.find(&literal.path);
        for field in &literal.fields {
            if let syn::Member::Named(name) = &field.member {
                self.note(of.clone(), &name.to_string(), false);
            }
        }
        visit::visit_expr_struct(self, literal);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.note_tokens(call.tokens.clone());
    }
}
