//! What events and states have in common: a name, a version, and what it is made of.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{DeriveInput, Error, Ident, LitStr, Path, Result};

use crate::attributes::{of_name, refuse_generics, set, version};
use crate::layout;

/// The longest name of a type, in bytes, as `stratalog::limits` has it.
const NAME_BYTES_MAX: usize = 256;

/// What `#[event(…)]` or `#[state(…)]` says.
#[derive(Default)]
pub(crate) struct Said {
    name: Option<LitStr>,
    version: Option<u32>,
    from: Option<Path>,
    first: Option<()>,
    json: Option<()>,
}

/// A type with a version, whose attribute was understood.
pub(crate) struct Versioned<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) name: LitStr,
    pub(crate) version: u32,
    pub(crate) archived: TokenStream,
    pub(crate) fingerprint: TokenStream,
    /// What is implemented for both kinds of types.
    pub(crate) implementation: TokenStream,
}

impl Said {
    /// Reads the attribute of this name; what it can say besides is `other`'s, which says whether it was that.
    fn of(
        input: &DeriveInput,
        attribute: &str,
        mut other: impl FnMut(&ParseNestedMeta<'_>) -> Result<bool>,
    ) -> Result<Self> {
        let mut said = Self::default();
        for attribute in of_name(&input.attrs, attribute) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    set(&mut said.name, meta.value()?.parse()?, &meta)
                } else if meta.path.is_ident("version") {
                    set(&mut said.version, version(&meta)?, &meta)
                } else if meta.path.is_ident("from") {
                    set(&mut said.from, meta.value()?.parse()?, &meta)
                } else if meta.path.is_ident("first") {
                    set(&mut said.first, (), &meta)
                } else if meta.path.is_ident("json") {
                    set(&mut said.json, (), &meta)
                } else if other(&meta)? {
                    Ok(())
                } else {
                    Err(meta.error(
                        "here can be said `name = \"…\"`, `version = N`, `from = Previous`, `first`, `json` and, of an \
                         event, `tag = \"…\"`",
                    ))
                }
            })?;
        }
        Ok(said)
    }
}

impl<'a> Versioned<'a> {
    /// Understands a type that calls itself `what`, by its attribute of this name.
    pub(crate) fn of(
        input: &'a DeriveInput,
        (what, attribute): (&str, &str),
        other: impl FnMut(&ParseNestedMeta<'_>) -> Result<bool>,
    ) -> Result<Self> {
        refuse_generics(input, what)?;
        let said = Said::of(input, attribute, other)?;
        let ident = &input.ident;
        let missing = |of: &str, example: &str| {
            Error::new_spanned(ident, format!("{what} has a {of}: #[{attribute}({example})]"))
        };
        let name = said.name.clone().ok_or_else(|| missing("name", "name = \"…\""))?;
        check_name(&name)?;
        let version = said.version.ok_or_else(|| missing("version", "version = 1"))?;
        check_chain(input, &said, version)?;
        let (layout, fingerprint, archived, form) = if said.json.is_some() {
            (None, quote!(::stratalog::derived::JSON), quote!(Self), quote!(Json))
        } else {
            let archived = quote!(<Self as ::stratalog::rkyv::Archive>::Archived);
            let fingerprint = quote!(<Self as ::stratalog::Layout>::LAYOUT);
            (Some(layout::implementation(input)?), fingerprint, archived, quote!(Rkyv))
        };
        let (older, upcast, follows) = match &said.from {
            Some(from) => (
                quote!(::core::option::Option::Some(&<#from as ::stratalog::Versioned>::LINEAGE)),
                quote!(::stratalog::derived::upcast::<#from, Self>(stored)),
                Some(quote!(::stratalog::derived::check_follows::<#from, #ident>();)),
            ),
            None => (
                quote!(::core::option::Option::None),
                quote! {{
                    let _ = stored;
                    ::core::result::Result::Err(::stratalog::derived::too_old::<Self>())
                }},
                None,
            ),
        };
        let implementation = quote! {
            #layout

            #[automatically_derived]
            impl ::stratalog::Versioned for #ident {
                const LINEAGE: ::stratalog::Lineage =
                    ::stratalog::derived::lineage::<Self>(#name, #version, #fingerprint, #older);
                type View = #archived;
                type Form = ::stratalog::derived::#form;

                fn upcast(
                    stored: ::stratalog::derived::Stored<'_>,
                ) -> ::core::result::Result<Self, ::stratalog::derived::Unreadable> {
                    #upcast
                }
            }

            const _: () = {
                #follows
                // What the layout asserts is asserted although nobody reads it yet.
                let _ = <#ident as ::stratalog::Versioned>::LINEAGE;
            };
        };
        Ok(Self { ident, name, version, archived, fingerprint, implementation })
    }
}

/// The rules for names of types, which a program that runs would meet too late.
fn check_name(name: &LitStr) -> Result<()> {
    let text = name.value();
    let wrong = if text.is_empty() {
        "a name must not be empty".to_owned()
    } else if text.len() > NAME_BYTES_MAX {
        format!("a name may have {NAME_BYTES_MAX} bytes, this one has {}", text.len())
    } else if text.starts_with('$') {
        "names that begin with '$' are the store's own".to_owned()
    } else if text.chars().any(char::is_control) {
        "a name must not have control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(name.span(), wrong))
}

fn check_chain(input: &DeriveInput, said: &Said, version: u32) -> Result<()> {
    let wrong = match (version, &said.from, said.first) {
        (_, Some(_), Some(())) => "`first` and `from` contradict each other",
        (1, Some(_), None) => "version 1 comes from no other",
        (1, None, Some(())) => "version 1 is the first in any case",
        (2.., None, None) => {
            "a gap in the chain: say the type of the version before, `from = Previous`, or `first` where older versions \
             are not read"
        }
        _ => return Ok(()),
    };
    Err(Error::new_spanned(&input.ident, wrong))
}
