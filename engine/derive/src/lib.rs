//! The derive macros of `stratalog`, which documents them: use them from there.
//!
//! Each derive is a file: it reads its attributes into a description, or says what is wrong with them and where; then it
//! writes the code. What can be known of other types only by the compiler is checked by constants that the code has.

mod attributes;
mod event;
mod event_set;
mod layout;
mod state;
mod versioned;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// See `stratalog::Event`.
#[proc_macro_derive(Event, attributes(event, layout))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event::derive(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// See `stratalog::EventSet`.
#[proc_macro_derive(EventSet, attributes(event_set))]
pub fn derive_event_set(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event_set::derive(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// See `stratalog::State`.
#[proc_macro_derive(State, attributes(state, layout))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    state::derive(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// See `stratalog::Layout`.
#[proc_macro_derive(Layout, attributes(layout))]
pub fn derive_layout(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    layout::derive(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
