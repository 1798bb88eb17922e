//! What the attributes have in common.

use proc_macro2::{TokenStream, TokenTree};
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, DeriveInput, Error, Ident, LitInt, MetaList, Result};

/// Sets what may be said once.
pub(crate) fn set<T>(place: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if place.replace(value).is_some() {
        let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
        return Err(meta.error(format!("`{name}` is said twice")));
    }
    Ok(())
}

/// The attributes of this name.
pub(crate) fn of_name<'a>(
    attributes: &'a [Attribute],
    name: &str,
) -> impl Iterator<Item = &'a Attribute> {
    attributes.iter().filter(move |attribute| attribute.path().is_ident(name))
}

/// Refuses types with parameters: what is stored has to be one type.
pub(crate) fn refuse_generics(input: &DeriveInput, what: &str) -> Result<()> {
    if input.generics.params.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        input.generics.span(),
        format!("{what} has no parameters: what is stored under a name is one type"),
    ))
}

/// A version: from 1 on.
pub(crate) fn version(meta: &ParseNestedMeta<'_>) -> Result<u32> {
    let literal: LitInt = meta.value()?.parse()?;
    let version: u32 = literal.base10_parse()?;
    if version == 0 {
        return Err(Error::new(literal.span(), "versions begin with 1"));
    }
    Ok(version)
}

/// What `#[rkyv(…)]` among these says for one of these names, as `name = …`: the name, and what it is.
pub(crate) fn rkyv_says(
    attributes: &[Attribute],
    names: &[&str],
) -> Option<(Ident, Vec<TokenTree>)> {
    let said = |list: &MetaList| {
        let tokens: Vec<_> = list.tokens.clone().into_iter().collect();
        let at = tokens.windows(2).position(|pair| match pair {
            [TokenTree::Ident(name), TokenTree::Punct(equals)] => {
                equals.as_char() == '=' && names.iter().any(|wanted| name == wanted)
            }
            _ => false,
        })?;
        let TokenTree::Ident(name) = &tokens[at] else { return None };
        let is_comma =
            |token: &&TokenTree| !matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
        let value = tokens[at + 2..].iter().take_while(is_comma).cloned().collect();
        Some((name.clone(), value))
    };
    of_name(attributes, "rkyv")
        .find_map(|attribute| attribute.meta.require_list().ok().and_then(said))
}

/// Where `#[rkyv(attr(…))]` among these gives the archived type a representation of its own.
pub(crate) fn rkyv_represents(attributes: &[Attribute]) -> Option<Ident> {
    fn find(tokens: TokenStream) -> Option<Ident> {
        tokens.into_iter().find_map(|token| match token {
            TokenTree::Ident(name) if name == "repr" => Some(name),
            TokenTree::Group(group) => find(group.stream()),
            _ => None,
        })
    }
    of_name(attributes, "rkyv").find_map(|attribute| {
        attribute.meta.require_list().ok().and_then(|list| find(list.tokens.clone()))
    })
}
