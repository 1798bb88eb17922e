//! `#[derive(Event)]`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Ident, LitStr, Result};

use crate::versioned::Versioned;

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let mut templates = Vec::new();
    let versioned = Versioned::of(input, ("an event", "event"), |meta| {
        let is_tag = meta.path.is_ident("tag");
        if is_tag {
            templates.push(meta.value()?.parse()?);
        }
        Ok(is_tag)
    })?;
    // A name that no field can have.
    let add = Ident::new("add", Span::mixed_site());
    let tags = tags(input, &templates, &add)?;
    let Versioned { ident, name, version, archived, fingerprint, implementation } = versioned;
    Ok(quote! {
        #implementation

        #[automatically_derived]
        impl ::stratalog::Event for #ident {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const FINGERPRINT: ::stratalog::Fingerprint = #fingerprint;
            type Archived = #archived;

            fn tags(&self, #add: &mut dyn ::core::ops::FnMut(::core::fmt::Arguments<'_>)) {
                #tags
            }
        }

        #[automatically_derived]
        impl ::stratalog::ToEvent for #ident {
            fn encode(
                &self,
                encoder: &mut ::stratalog::EventEncoder<'_>,
            ) -> ::core::result::Result<(), ::stratalog::EncodeError> {
                ::stratalog::derived::encode(self, encoder)
            }
        }
    })
}

/// The body that gives each tag to `add`.
fn tags(input: &DeriveInput, tags: &[LitStr], add: &Ident) -> Result<TokenStream> {
    let Some(first) = tags.first() else {
        return Ok(quote!(let _ = #add;));
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
        #(#add(::core::format_args!(#tags));)*
    })
}
