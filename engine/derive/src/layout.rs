//! `#[derive(Layout)]`: the fingerprint of a struct or an enum, of its fields in their order.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Attribute, Data, DeriveInput, Error, Expr, ExprLit, Field, Fields, Lit, LitStr, Result};

use crate::attributes::{of_name, refuse_generics, rkyv_represents, rkyv_says, set, version};

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
    if let Some((name, _)) = rkyv_says(&input.attrs, &["as", "remote"]) {
        let wrong =
            format!("`{name}` makes it be archived as another type, whose layout nobody knows");
        return Err(Error::new(name.span(), wrong));
    }
    if let Some(repr) = rkyv_represents(&input.attrs) {
        let wrong = "the archived type lies as rkyv lays it: a representation of its own is no part of the layout";
        return Err(Error::new(repr.span(), wrong));
    }
    let (fingerprint, is_empty) = match opaque(&input.attrs)? {
        Some(opaque) => (opaque, archives_nothing()),
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
            let of = data.fields.iter().map(|field| &field.ty);
            let mut all_known = true;
            for field in &data.fields {
                all_known &= opaque(&field.attrs)?.is_none();
                all_known &= rkyv_says(&field.attrs, &["with"]).is_none();
            }
            let is_empty = if all_known {
                quote!(true #(&& <#of as ::stratalog::Layout>::IS_EMPTY)*)
            } else {
                archives_nothing()
            };
            Ok((fields, is_empty))
        }
        Data::Enum(data) => {
            let mut all = quote!(::stratalog::Fingerprint::of("enum"));
            for variant in &data.variants {
                let name = variant.ident.unraw().to_string();
                let mut begin = quote!(::stratalog::Fingerprint::of("variant").then(#name));
                if let Some((_, number)) = &variant.discriminant {
                    let number = literal(number)?.to_string();
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

/// Whether the archived form takes no bytes, which is known once it is there.
fn archives_nothing() -> TokenStream {
    quote!(::core::mem::size_of::<<Self as ::stratalog::rkyv::Archive>::Archived>() == 0)
}

/// The number of a variant. What is computed might change without a change that the macro can see.
fn literal(number: &Expr) -> Result<u64> {
    match number {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse(),
        Expr::Lit(ExprLit { lit: Lit::Byte(number), .. }) => Ok(number.value().into()),
        other => Err(Error::new_spanned(
            other,
            "the number of a stored variant is written out: a constant might change",
        )),
    }
}

/// What begins so, and then each field.
fn fields(begin: TokenStream, fields: &Fields) -> Result<TokenStream> {
    fields.iter().enumerate().try_fold(begin, |before, (number, field)| {
        let name = field.ident.as_ref().map(|name| name.unraw().to_string());
        let name = name.unwrap_or_else(|| number.to_string());
        let layout = of_field(field)?;
        Ok(quote!(#before.then(#name).with(#layout)))
    })
}

fn of_field(field: &Field) -> Result<TokenStream> {
    if let Some(opaque) = opaque(&field.attrs)? {
        return Ok(opaque);
    }
    let of = &field.ty;
    match rkyv_says(&field.attrs, &["with"]) {
        None => Ok(quote!(<#of as ::stratalog::Layout>::LAYOUT)),
        Some((_, with)) if with.last().is_some_and(|last| last.to_string() == "AsVec") => {
            let with: TokenStream = with.into_iter().collect();
            Ok(quote!({
                // It is rkyv's own, and not another one of that name.
                const _: fn(#with) -> ::stratalog::rkyv::with::AsVec = |with| with;
                <#of as ::stratalog::derived::AsList>::LAYOUT
            }))
        }
        Some((name, _)) => Err(Error::new(
            name.span(),
            "`with` changes how the value is archived: say as what, #[layout(opaque = \"name\", version = 1)], with \
             another version where that changes",
        )),
    }
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
