//! Which types have a layout that events can be stored in.
//!
//! Owns [`Layout`] and what it says of the standard library's types. What shares ownership (`Rc`, `Arc`), has no order
//! (hash maps) or no end (recursive types) has none: the first would be stored as something else than it was, the second
//! differs from run to run, the third could exhaust the stack of whoever checks it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128,
};
use std::time::Duration;

use super::fingerprint::Fingerprint;

/// A type that can be a part of a stored event, and what its layout is.
///
/// Derive it for your own types. It is also there for the integers but `usize` and `isize`, floats, `bool`, `char`,
/// `String`, `Box<str>`, `Box`, `Vec`, `VecDeque`, `Option`, `Result`, arrays, tuples, `Duration` and network addresses;
/// and for `BTreeMap` and `BTreeSet` where they are archived as lists, `#[rkyv(with = AsVec)]`: rkyv does not check its own
/// archives of trees well enough to be read from bytes that nobody vouches for. A field of somebody else's type is declared opaque, with a name and a version for its layout:
///
/// ```
/// use stratalog::rkyv::{self, Archive, Deserialize, Serialize, with::AsString};
/// use stratalog::{Fingerprint, Layout};
///
/// #[derive(Layout, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// struct Upload {
///     bytes: u64,
///     #[rkyv(with = AsString)]
///     #[layout(opaque = "path", version = 1)]
///     path: std::path::PathBuf,
/// }
///
/// let layout = Fingerprint::of("struct").then("bytes").with(u64::LAYOUT);
/// let layout = layout.then("path").with(Fingerprint::opaque("path", 1));
/// assert_eq!(Upload::LAYOUT, layout);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no `Layout`, so events with it cannot be stored",
    label = "has no `Layout`",
    note = "derive `stratalog::Layout` for your own types, and declare those of others `#[layout(opaque = \"name\", version = 1)]` where they stand",
    note = "`Rc`, `Arc`, hash maps, `usize` and `isize` have none: store what they stand for, such as `Box`, `u64`",
    note = "`BTreeMap` and `BTreeSet` have one where they are archived as lists: `#[rkyv(with = stratalog::rkyv::with::AsVec)]`"
)]
pub trait Layout {
    /// The fingerprint of its archived form.
    const LAYOUT: Fingerprint;
    /// Whether it takes no bytes. A list of what takes none could claim any length, so it has no layout. Whoever implements
    /// this by hand says so.
    const IS_EMPTY: bool = false;
}

macro_rules! named {
    ($($name:literal: $($type:ty),+;)*) => {
        $($(impl Layout for $type {
            const LAYOUT: Fingerprint = Fingerprint::of($name);
        })+)*
    };
}

named! {
    "u8": u8; "u16": u16; "u32": u32; "u64": u64; "u128": u128;
    "i8": i8; "i16": i16; "i32": i32; "i64": i64; "i128": i128;
    "nonzero u8": NonZeroU8; "nonzero u16": NonZeroU16; "nonzero u32": NonZeroU32;
    "nonzero u64": NonZeroU64; "nonzero u128": NonZeroU128;
    "nonzero i8": NonZeroI8; "nonzero i16": NonZeroI16; "nonzero i32": NonZeroI32;
    "nonzero i64": NonZeroI64; "nonzero i128": NonZeroI128;
    "f32": f32; "f64": f64; "bool": bool; "char": char;
    "string": String; "boxed str": Box<str>;
    "duration": Duration;
    "ipv4": Ipv4Addr; "ipv6": Ipv6Addr; "ip": IpAddr;
    "socket v4": SocketAddrV4; "socket v6": SocketAddrV6; "socket": SocketAddr;
}

/// The layout of a list of what is called so.
const fn list<T: Layout>(name: &str) -> Fingerprint {
    assert!(!T::IS_EMPTY, "a list of what takes no bytes has no layout");
    Fingerprint::of(name).with(T::LAYOUT)
}

macro_rules! lists {
    ($($name:literal: $($type:ty),+;)*) => {
        $($(impl<T: Layout> Layout for $type {
            const LAYOUT: Fingerprint = list::<T>($name);
        })+)*
    };
}

lists! {
    "vec": Vec<T>, VecDeque<T>;
    "boxed slice": Box<[T]>;
}

/// Maps and sets that are archived as lists of what is in them, by rkyv's `AsVec`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no layout as a list",
    label = "is neither a `BTreeMap` nor a `BTreeSet`"
)]
#[doc(hidden)]
pub trait AsList {
    const LAYOUT: Fingerprint;
}

impl<K: Layout, V: Layout> AsList for BTreeMap<K, V> {
    const LAYOUT: Fingerprint = {
        assert!(!(K::IS_EMPTY && V::IS_EMPTY), "a list of what takes no bytes has no layout");
        Fingerprint::of("list of entries").with(K::LAYOUT).with(V::LAYOUT)
    };
}

impl<T: Layout> AsList for BTreeSet<T> {
    const LAYOUT: Fingerprint = list::<T>("list of a set");
}

impl<T: Layout> Layout for Box<T> {
    const LAYOUT: Fingerprint = Fingerprint::of("box").with(T::LAYOUT);
}

impl<T: Layout> Layout for Option<T> {
    const LAYOUT: Fingerprint = Fingerprint::of("option").with(T::LAYOUT);
}

impl<T: Layout, E: Layout> Layout for Result<T, E> {
    const LAYOUT: Fingerprint = Fingerprint::of("result").with(T::LAYOUT).with(E::LAYOUT);
}

impl<T: Layout, const N: usize> Layout for [T; N] {
    const LAYOUT: Fingerprint =
        Fingerprint::of("array").with(Fingerprint::from_number(N as u128)).with(T::LAYOUT);
    const IS_EMPTY: bool = N == 0 || T::IS_EMPTY;
}

impl Layout for () {
    const LAYOUT: Fingerprint = Fingerprint::of("unit");
    const IS_EMPTY: bool = true;
}

macro_rules! tuples {
    ($($($part:ident)+;)*) => {
        $(impl<$($part: Layout),+> Layout for ($($part,)+) {
            const LAYOUT: Fingerprint = Fingerprint::of("tuple")$(.with($part::LAYOUT))+;
            const IS_EMPTY: bool = true $(&& $part::IS_EMPTY)+;
        })*
    };
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_otherwise_has_another_fingerprint() {
        let all = [
            u32::LAYOUT,
            i32::LAYOUT,
            f32::LAYOUT,
            NonZeroU32::LAYOUT,
            <Option<u32>>::LAYOUT,
            <Option<Option<u32>>>::LAYOUT,
            <Vec<u32>>::LAYOUT,
            <Box<u32>>::LAYOUT,
            <Box<[u32]>>::LAYOUT,
            <[u32; 1]>::LAYOUT,
            <[u32; 2]>::LAYOUT,
            <(u32,)>::LAYOUT,
            <(u32, u32)>::LAYOUT,
            <((u32,), u32)>::LAYOUT,
            <(u32, (u32,))>::LAYOUT,
            <Result<u32, u32>>::LAYOUT,
            <BTreeMap<u32, u32> as AsList>::LAYOUT,
            <BTreeSet<u32> as AsList>::LAYOUT,
        ];
        for (number, one) in all.iter().enumerate() {
            assert!(!all[..number].contains(one), "{number}");
        }
    }

    #[test]
    fn what_takes_no_bytes_is_known() {
        let empty = [<()>::IS_EMPTY, <((), [u8; 0])>::IS_EMPTY, <[(); 7]>::IS_EMPTY];
        assert_eq!(empty, [true; 3]);
        let others = [<Option<()>>::IS_EMPTY, <(u8, ())>::IS_EMPTY, <[u8; 1]>::IS_EMPTY];
        assert_eq!(others, [false; 3]);
    }
}
