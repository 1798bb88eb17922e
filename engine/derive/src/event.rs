//! `#[derive(Event)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Path, Result};

use crate::attributes::{of_name, refuse_generics, set, version};
use crate::layout;

/// The longest name of a type, in bytes, as `stratalog::limits` has it.
const NAME_BYTES_MAX: usize = 256;

/// What `#[event(…)]` says.
#[derive(Default)]
struct Said {
    name: Option<LitStr>,
    version: Option<u32>,
    from: Option<Path>,
    first: Option<()>,
    json: Option<()>,
    tags: Vec<LitStr>,
}

impl Said {
    fn of(input: &DeriveInput) -> Result<Self> {
        let mut said = Self::default();
        for attribute in of_name(&input.attrs, "event") {
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
                } else if meta.path.is_ident("tag") {
                    said.tags.push(meta.value()?.parse()?);
                    Ok(())
                } else {
                    Err(meta.error(
                        "an event can say `name = \"…\"`, `version = N`, `from = Previous`, `first`, `json` and \
                         `tag = \"…\"`",
                    ))
                }
            })?;
        }
        Ok(said)
    }
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    refuse_generics(input, "an event")?;
    let said = Said::of(input)?;
    let missing = |what| Error::new_spanned(&input.ident, format!("an event has a {what}"));
    let name = said.name.as_ref().ok_or_else(|| missing("name: #[event(name = \"…\")]"))?;
    check_name(name)?;
    let version = said.version.ok_or_else(|| missing("version: #[event(version = 1)]"))?;
    check_chain(input, &said, version)?;
    let tags = tags(input, &said.tags)?;

    let event = &input.ident;
    let (layout, fingerprint, archived, form) = if said.json.is_some() {
        (None, quote!(::stratalog::derived::JSON), quote!(Self), quote!(Json))
    } else {
        let archived = quote!(<Self as ::stratalog::rkyv::Archive>::Archived);
        let fingerprint = quote!(<Self as ::stratalog::Layout>::LAYOUT);
        (Some(layout::implementation(input)?), fingerprint, archived, quote!(Rkyv))
    };
    let (older, upcast, follows) = match &said.from {
        Some(from) => (
            quote!(::core::option::Option::Some(&<#from as ::stratalog::Event>::LINEAGE)),
            quote!(::stratalog::derived::upcast::<#from, Self>(stored)),
            Some(quote!(::stratalog::derived::check_follows::<#from, #event>();)),
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
    Ok(quote! {
        #layout

        #[automatically_derived]
        impl ::stratalog::Event for #event {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const FINGERPRINT: ::stratalog::Fingerprint = #fingerprint;
            const LINEAGE: ::stratalog::derived::Lineage = ::stratalog::derived::lineage::<Self>(#older);
            type Archived = #archived;
            type Form = ::stratalog::derived::#form;

            fn tags(&self, add: &mut dyn ::core::ops::FnMut(::core::fmt::Arguments<'_>)) {
                #tags
            }

            fn upcast(
                stored: ::stratalog::derived::Stored<'_>,
            ) -> ::core::result::Result<Self, ::stratalog::derived::Unreadable> {
                #upcast
            }
        }

        #[automatically_derived]
        impl ::stratalog::ToEvent for #event {
            fn encode(
                &self,
                encoder: &mut ::stratalog::EventEncoder<'_>,
            ) -> ::core::result::Result<(), ::stratalog::EncodeError> {
                ::stratalog::derived::encode(self, encoder)
            }
        }

        const _: () = {
            #follows
            // What the layout asserts is asserted although nobody reads it yet.
            let _ = <#event as ::stratalog::Event>::FINGERPRINT;
        };
    })
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

/// The body that gives each tag to `add`.
fn tags(input: &DeriveInput, tags: &[LitStr]) -> Result<TokenStream> {
    let Some(first) = tags.first() else {
        return Ok(quote!(let _ = add;));
    };
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(
            first.span(),
            "a tag has fields in it, and an enum has none of its own",
        ));
    };
    let bound = match &data.fields {
        Fields::Named(fields) => {
            let names = fields.named.iter().map(|field| &field.ident);
            quote!(let Self { #(#names),* } = self;)
        }
        Fields::Unnamed(_) => {
            return Err(Error::new(first.span(), "a tag names fields, and these have no names"));
        }
        Fields::Unit => TokenStream::new(),
    };
    Ok(quote! {
        #[allow(unused_variables)]
        #bound
        #(add(::core::format_args!(#tags));)*
    })
}
