//! `#[derive(Layout)]`: the fingerprint of a struct or an enum, of its fields in their order.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Error, Field, Fields, LitStr, Result};

use crate::attributes::{of_name, refuse_generics, rkyv_says, set, version};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    refuse_generics(input, "a type with a layout")?;
    let (implementation, name) = (implementation(input)?, &input.ident);
    Ok(quote! {
        #implementation

        // What it asserts is asserted although nobody reads it yet.
        const _: ::stratalog::Fingerprint = <#name as ::stratalog::Layout>::LAYOUT;
    })
}

/// The implementation, for an event's type too.
pub(crate) fn implementation(input: &DeriveInput) -> Result<TokenStream> {
    if let Some(changed) = rkyv_says(&input.attrs, &["as", "remote"]) {
        return Err(changed);
    }
    let (fingerprint, is_empty) = match opaque(&input.attrs)? {
        Some(opaque) => (opaque, quote!(false)),
        None => of_data(input)?,
    };
    let name = &input.ident;
    Ok(quote! {
        #[automatically_derived]
        impl ::stratalog::Layout for #name {
            const LAYOUT: ::stratalog::Fingerprint = #fingerprint;
            const IS_EMPTY: bool = #is_empty;
        }
    })
}

fn of_data(input: &DeriveInput) -> Result<(TokenStream, TokenStream)> {
    match &input.data {
        Data::Struct(data) => {
            let begin = quote!(::stratalog::Fingerprint::of("struct"));
            let fields = fields(begin, &data.fields)?;
            let mut is_empty = quote!(true);
            for field in &data.fields {
                let of = &field.ty;
                is_empty = if opaque(&field.attrs)?.is_some() {
                    quote!(false)
                } else {
                    quote!(#is_empty && <#of as ::stratalog::Layout>::IS_EMPTY)
                };
            }
            Ok((fields, is_empty))
        }
        Data::Enum(data) => {
            let mut all = quote!(::stratalog::Fingerprint::of("enum"));
            for variant in &data.variants {
                let name = variant.ident.to_string();
                let mut begin = quote!(::stratalog::Fingerprint::of("variant").then(#name));
                if let Some((_, number)) = &variant.discriminant {
                    let number = quote!(#number).to_string();
                    begin = quote!(#begin.then(#number));
                }
                let fields = fields(begin, &variant.fields)?;
                all = quote!(#all.with(#fields));
            }
            Ok((all, quote!(false)))
        }
        Data::Union(data) => {
            Err(Error::new(data.union_token.span, "a union has no layout that can be read back"))
        }
    }
}

/// What begins so, and then each field.
fn fields(begin: TokenStream, fields: &Fields) -> Result<TokenStream> {
    fields.iter().enumerate().try_fold(begin, |before, (number, field)| {
        let name = field.ident.as_ref().map_or_else(|| number.to_string(), ToString::to_string);
        let layout = of_field(field)?;
        Ok(quote!(#before.then(#name).with(#layout)))
    })
}

fn of_field(field: &Field) -> Result<TokenStream> {
    if let Some(opaque) = opaque(&field.attrs)? {
        return Ok(opaque);
    }
    if let Some(mut changed) = rkyv_says(&field.attrs, &["with"]) {
        changed.combine(Error::new_spanned(
            field,
            "say what it is archived as: #[layout(opaque = \"name\", version = 1)], with another version where that \
             changes",
        ));
        return Err(changed);
    }
    let of = &field.ty;
    Ok(quote!(<#of as ::stratalog::Layout>::LAYOUT))
}

/// `#[layout(opaque = "name", version = N)]`, if it is there.
fn opaque(attributes: &[Attribute]) -> Result<Option<TokenStream>> {
    let (mut name, mut number) = (None::<LitStr>, None);
    let mut said = None;
    for attribute in of_name(attributes, "layout") {
        said = Some(attribute);
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("opaque") {
                set(&mut name, meta.value()?.parse()?, &meta)
            } else if meta.path.is_ident("version") {
                set(&mut number, version(&meta)?, &meta)
            } else {
                Err(meta.error("a layout can be said to be `opaque = \"name\"`, `version = N`"))
            }
        })?;
    }
    match (said, name, number) {
        (None, ..) => Ok(None),
        (Some(_), Some(name), Some(number)) => {
            Ok(Some(quote!(::stratalog::Fingerprint::opaque(#name, #number))))
        }
        (Some(attribute), ..) => Err(Error::new_spanned(
            attribute,
            "an opaque layout has a name and a version: #[layout(opaque = \"name\", version = 1)]",
        )),
    }
}
