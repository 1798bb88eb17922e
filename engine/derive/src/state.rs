//! `#[derive(State)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Result};

use crate::versioned::Versioned;

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let versioned = Versioned::of(input, ("a state", "state"), |_| Ok(false))?;
    let Versioned { ident, name, version, archived, fingerprint, implementation } = versioned;
    Ok(quote! {
        #implementation

        #[automatically_derived]
        impl ::stratalog::State for #ident {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const FINGERPRINT: ::stratalog::Fingerprint = #fingerprint;
            type Archived = #archived;
        }
    })
}
