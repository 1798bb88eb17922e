//! A type of folded state.

use super::fingerprint::Fingerprint;
use super::versioned::Versioned;

/// The state that events are folded into, as a Rust type. Derive it.
///
/// It has a name and a version like an event, `#[state(name = "…", version = N)]`, and is archived by rkyv (or is JSON,
/// with `json`), so that it can be stored beside the log and read back. `from = Previous` and `first` mean what they mean
/// for an [`Event`](trait@crate::Event).
///
/// ```
/// use std::collections::BTreeMap;
///
/// use stratalog::State;
/// use stratalog::rkyv::{Archive, Deserialize, Serialize, with::AsVec};
///
/// #[derive(State, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[state(name = "account", version = 1)]
/// struct Account {
///     owner: String,
///     #[rkyv(with = AsVec)]
///     balances: BTreeMap<String, i64>,
/// }
/// ```
pub trait State: Versioned<View = <Self as State>::Archived> {
    /// The name of the type, as it is stored.
    const NAME: &'static str;
    /// The version of its structure, from 1 on.
    const VERSION: u32;
    /// The fingerprint of its layout; [`Fingerprint::NONE`] where it is JSON.
    const FINGERPRINT: Fingerprint;

    /// What is read in place: the archived form, or for JSON the type itself.
    type Archived: Send + Sync + 'static;
}
