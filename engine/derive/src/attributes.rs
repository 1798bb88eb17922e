//! What the attributes have in common.

use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, DeriveInput, Error, LitInt, Result};

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

/// Whether `#[rkyv(…)]` among these says something of this name.
pub(crate) fn rkyv_says(attributes: &[Attribute], names: &[&str]) -> Option<Error> {
    let mut found = None;
    for attribute in of_name(attributes, "rkyv") {
        // What is no list of settings is rkyv's to complain about.
        let _ = attribute.parse_nested_meta(|meta| {
            if let Some(name) = names.iter().find(|name| meta.path.is_ident(name)) {
                found.get_or_insert_with(|| {
                    meta.error(format!("`{name}` changes how the value is archived"))
                });
            }
            // Goes over the rest of the setting, whatever it is.
            while !meta.input.is_empty() && !meta.input.peek(syn::Token![,]) {
                let _: proc_macro2::TokenTree = meta.input.parse()?;
            }
            Ok(())
        });
    }
    found
}
