//! `#[derive(EventSet)]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Ident, LitStr, Path, Result, Token, Type};

use crate::attributes::{of_name, refuse_generics, set};

/// What `#[event_set(…)]` says.
#[derive(Default)]
struct Said {
    view: Option<Ident>,
    json: Option<()>,
    splits: Vec<Split>,
}

/// `split(Old, with = function)`.
struct Split {
    old: Type,
    with: Path,
}

impl Said {
    fn of(input: &DeriveInput) -> Result<Self> {
        let mut said = Self::default();
        for attribute in of_name(&input.attrs, "event_set") {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("view") {
                    let name: LitStr = meta.value()?.parse()?;
                    set(&mut said.view, name.parse()?, &meta)
                } else if meta.path.is_ident("json") {
                    set(&mut said.json, (), &meta)
                } else if meta.path.is_ident("split") {
                    let inner;
                    syn::parenthesized!(inner in meta.input);
                    let old = inner.parse()?;
                    inner.parse::<Token![,]>()?;
                    let key: Ident = inner.parse()?;
                    if key != "with" {
                        return Err(Error::new(key.span(), "expected `with = function`"));
                    }
                    inner.parse::<Token![=]>()?;
                    said.splits.push(Split { old, with: inner.parse()? });
                    Ok(())
                } else {
                    Err(meta.error(
                        "a set can say `split(Old, with = function)`, `view = \"Name\"` and `json`",
                    ))
                }
            })?;
        }
        Ok(said)
    }
}

/// The variants and what each holds.
fn members(input: &DeriveInput) -> Result<Vec<(&Ident, &Type)>> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "a set of events is an enum"));
    };
    if data.variants.is_empty() {
        return Err(Error::new_spanned(&input.ident, "a set has at least one event"));
    }
    let member = |variant: &'_ syn::Variant| match &variant.fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok(()),
        _ => Err(Error::new_spanned(variant, "each variant holds one event: `Opened(Opened)`")),
    };
    data.variants
        .iter()
        .map(|variant| {
            member(variant)?;
            let event = variant.fields.iter().next().map(|field| &field.ty);
            event
                .map(|event| (&variant.ident, event))
                .ok_or_else(|| Error::new_spanned(variant, "it holds nothing"))
        })
        .collect()
}

#[expect(clippy::too_many_lines, reason = "one template, read from top to bottom")]
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    refuse_generics(input, "a set of events")?;
    let said = Said::of(input)?;
    let members = members(input)?;
    let (visibility, name) = (&input.vis, &input.ident);
    let view = said.view.unwrap_or_else(|| format_ident!("{name}Ref"));
    let doc = format!("A reference to the newest version of one of the events of [`{name}`].");
    let variants: Vec<_> = members.iter().map(|(variant, _)| *variant).collect();
    let events: Vec<_> = members.iter().map(|(_, event)| *event).collect();
    let numbers: Vec<_> = (0..members.len()).collect();
    let (old, with): (Vec<_>, Vec<_>) =
        said.splits.iter().map(|split| (&split.old, &split.with)).unzip();
    // Names that no function of the user's can have.
    let [event, looked] = ["event", "looked"].map(|name| Ident::new(name, Span::mixed_site()));
    let export = said.json.map(|()| {
        quote! {
            #[automatically_derived]
            impl ::stratalog::derived::ToJson for #name {
                fn to_json(&self) -> ::core::result::Result<
                    ::std::vec::Vec<u8>,
                    ::stratalog::derived::JsonError,
                > {
                    match self {
                        #(Self::#variants(event) => ::stratalog::derived::json_of(event),)*
                    }
                }
            }
        }
    });
    Ok(quote! {
        #[doc = #doc]
        #[derive(Clone, Copy)]
        #visibility enum #view<'a> {
            #(
                #[allow(missing_docs)]
                #variants(&'a <#events as ::stratalog::Event>::Archived),
            )*
        }

        #[automatically_derived]
        impl ::stratalog::EventSet for #name {
            type Ref<'a> = #view<'a>;
            const READS: &'static [::stratalog::derived::Reads] = &[
                #(::stratalog::derived::Reads::split::<#old>(),)*
                #(::stratalog::derived::Reads::member::<#events>(),)*
            ];

            #[inline]
            fn view(
                #event: ::stratalog::EventRef<'_>,
            ) -> ::core::result::Result<
                ::core::option::Option<#view<'_>>,
                ::stratalog::DecodeError,
            > {
                let #looked = ::stratalog::derived::look(#event);
                #(#looked.refuse_split::<#old>()?;)*
                #(
                    if let ::core::option::Option::Some(event) = #looked.get::<#events>()? {
                        return ::core::result::Result::Ok(::core::option::Option::Some(#view::#variants(event)));
                    }
                )*
                #(#looked.refuse_newer::<#old>()?;)*
                ::core::result::Result::Ok(::core::option::Option::None)
            }

            #[inline]
            unsafe fn view_unchecked(
                #event: ::stratalog::EventRef<'_>,
            ) -> ::core::result::Result<
                ::core::option::Option<#view<'_>>,
                ::stratalog::DecodeError,
            > {
                let #looked = ::stratalog::derived::look(#event);
                #(#looked.refuse_split::<#old>()?;)*
                #(
                    // SAFETY: the caller's.
                    if let ::core::option::Option::Some(event) = unsafe { #looked.get_unchecked::<#events>() }? {
                        return ::core::result::Result::Ok(::core::option::Option::Some(#view::#variants(event)));
                    }
                )*
                #(#looked.refuse_newer::<#old>()?;)*
                ::core::result::Result::Ok(::core::option::Option::None)
            }

            fn decode(
                #event: ::stratalog::EventRef<'_>,
            ) -> ::core::result::Result<
                ::core::option::Option<Self>,
                ::stratalog::DecodeError,
            > {
                let #looked = ::stratalog::derived::look(#event);
                #(#looked.refuse_split::<#old>()?;)*
                #(
                    if let ::core::option::Option::Some(event) = #looked.decode::<#events>()? {
                        return ::core::result::Result::Ok(::core::option::Option::Some(Self::#variants(event)));
                    }
                )*
                #(#looked.refuse_newer::<#old>()?;)*
                ::core::result::Result::Ok(::core::option::Option::None)
            }

            fn values(
                #event: ::stratalog::EventRef<'_>,
            ) -> ::core::result::Result<
                ::core::option::Option<::std::vec::Vec<Self>>,
                ::stratalog::DecodeError,
            > {
                #(
                    let #looked = ::stratalog::derived::look(#event);
                    if #looked.is_split::<#old>() {
                        return #looked.split_values::<#old, Self, _>(#with).map(::core::option::Option::Some);
                    }
                )*
                ::core::result::Result::Ok(Self::decode(#event)?.map(|value| ::std::vec![value]))
            }

            #[inline]
            fn split(
                #event: ::stratalog::EventRef<'_>,
            ) -> ::core::result::Result<
                ::core::option::Option<&[::stratalog::derived::KeptPart]>,
                ::stratalog::DecodeError,
            > {
                #(
                    let #looked = ::stratalog::derived::look(#event);
                    if #looked.is_split::<#old>() {
                        return #looked.split::<#old, Self, _>(#with).map(::core::option::Option::Some);
                    }
                )*
                let _ = #event;
                ::core::result::Result::Ok(::core::option::Option::None)
            }

            fn keep(
                self,
            ) -> ::core::result::Result<
                ::stratalog::derived::KeptPart,
                ::stratalog::derived::Unreadable,
            > {
                match self {
                    #(Self::#variants(event) => ::stratalog::derived::KeptPart::new(#numbers, event),)*
                }
            }

            fn kept(part: &::stratalog::derived::KeptPart) -> #view<'_> {
                match part.variant() {
                    #(#numbers => #view::#variants(part.view::<#events>()),)*
                    _ => ::core::unreachable!("parts are of the set's own variants"),
                }
            }
        }

        #[automatically_derived]
        impl ::stratalog::ToEvent for #name {
            fn encode(
                &self,
                encoder: &mut ::stratalog::EventEncoder<'_>,
            ) -> ::core::result::Result<(), ::stratalog::EncodeError> {
                match self {
                    #(Self::#variants(event) => ::stratalog::derived::encode(event, encoder),)*
                }
            }
        }

        #(
            #[automatically_derived]
            impl ::core::convert::From<#events> for #name {
                fn from(event: #events) -> Self {
                    Self::#variants(event)
                }
            }
        )*

        #export

        const _: () = ::stratalog::derived::check_distinct(&[
            #(::stratalog::derived::Taken::split::<#old>(),)*
            #(::stratalog::derived::Taken::member::<#events>(),)*
        ]);
    })
}
