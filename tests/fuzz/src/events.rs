//! The types that hostile payloads claim to be of, valid values of each, and the inputs of the fuzz target.
//!
//! Owns the shapes that matter to a decoder: what is in place and what is pointed to, values that not every pattern of bits
//! is, lists of lists, maps, versions that become newer ones, and JSON. Calls what `stratalog` derives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use stratalog::rkyv::with::AsVec;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{Event, EventSet, Fingerprint, Layout, NewEvent, PayloadKind};

/// An event with valid values, of which hostile ones are made.
pub trait Sample: Event<Archived: Debug> + Debug {
    /// Some values: small ones, and ones with something in every part.
    fn samples() -> Vec<Self>;

    /// Uses a view as its readers do, beyond what printing it uses.
    fn touch(_: &Self::Archived) {}
}

/// Texts and bytes.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "texts", version = 1)]
pub struct Texts {
    one: String,
    other: String,
    bytes: Vec<u8>,
}

impl Sample for Texts {
    fn samples() -> Vec<Self> {
        vec![
            Self { one: String::new(), other: "short".into(), bytes: Vec::new() },
            Self {
                one: "längst nicht mehr eingebettet".into(),
                other: "a text of its own, and behind it bytes".into(),
                bytes: (0..70).collect(),
            },
        ]
    }

    fn touch(view: &ArchivedTexts) {
        // Texts are believed to be UTF-8 by whoever goes over their characters.
        assert!(str::from_utf8(view.one.as_bytes()).is_ok());
        assert!(str::from_utf8(view.other.as_bytes()).is_ok());
        let letters = view.one.chars().chain(view.other.chars()).map(u32::from);
        let bytes = view.bytes.iter().copied().map(u32::from);
        std::hint::black_box(letters.chain(bytes).fold(0, u32::wrapping_add));
    }
}

/// A part of others.
#[derive(Layout, Archive, Serialize, Deserialize, Debug, Clone)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
pub struct Place {
    street: String,
    number: u16,
    floor: Option<i8>,
}

fn place(number: u16) -> Place {
    let street = if number.is_multiple_of(2) { "Lane" } else { "Street of the long names" };
    Place { street: street.into(), number, floor: (number > 3).then_some(-1) }
}

/// An enum with data.
#[derive(Layout, Archive, Serialize, Deserialize, Debug, Clone)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
pub enum Step {
    Idle,
    Moved(i32, i64),
    Told { to: String, times: Vec<u32> },
    Both(Box<Place>, Option<String>),
}

/// Structures in structures.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "nested", version = 1)]
pub struct Nested {
    place: Place,
    step: Step,
    more: Option<Box<Place>>,
    names: Vec<String>,
    places: Vec<Place>,
    steps: Vec<Step>,
    deep: Vec<Vec<Option<Vec<String>>>>,
    result: Result<Box<Step>, String>,
}

impl Sample for Nested {
    fn samples() -> Vec<Self> {
        let told = Step::Told { to: "somebody".into(), times: vec![1, 2, u32::MAX] };
        let both = Step::Both(Box::new(place(5)), Some("a text that is not in place".into()));
        let small = Self {
            place: place(2),
            step: Step::Idle,
            more: None,
            names: Vec::new(),
            places: Vec::new(),
            steps: Vec::new(),
            deep: Vec::new(),
            result: Err("none".into()),
        };
        let large = Self {
            place: place(1),
            step: told.clone(),
            more: Some(Box::new(place(4))),
            names: vec!["a".into(), "another name, longer".into(), String::new()],
            places: vec![place(0), place(7)],
            steps: vec![Step::Moved(-1, i64::MIN), both, told.clone(), Step::Idle],
            deep: vec![vec![None, Some(vec!["deep down there".into()])], vec![]],
            result: Ok(Box::new(told)),
        };
        vec![small, large]
    }

    fn touch(view: &ArchivedNested) {
        let mut names = view.names.iter().chain(view.deep.iter().flat_map(|one| {
            one.iter().filter_map(|two| two.as_ref()).flat_map(|three| three.iter())
        }));
        assert!(names.all(|name| str::from_utf8(name.as_bytes()).is_ok()));
        let mut streets = view.places.iter().chain(view.more.as_deref()).map(|place| &place.street);
        assert!(streets.all(|text| str::from_utf8(text.as_bytes()).is_ok()));
    }
}

/// Maps, sets and lists of other kinds.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "listed", version = 1)]
pub struct Listed {
    #[rkyv(with = AsVec)]
    counts: BTreeMap<String, u32>,
    #[rkyv(with = AsVec)]
    places: BTreeMap<u16, Place>,
    #[rkyv(with = AsVec)]
    numbers: BTreeSet<i16>,
    queue: VecDeque<u16>,
    boxed: Box<[u32]>,
    text: Box<str>,
    pairs: Vec<(u8, u8)>,
}

impl Sample for Listed {
    fn samples() -> Vec<Self> {
        let of = |count: u16| Self {
            counts: (0..count).map(|number| (format!("key {number}"), number.into())).collect(),
            places: (0..count / 2).map(|number| (number, place(number))).collect(),
            numbers: (0..count).map(|number| 0_i16.wrapping_sub_unsigned(number * 999)).collect(),
            queue: (0..count).collect(),
            boxed: (0..u32::from(count)).collect(),
            text: "a text in a box".into(),
            pairs: (0..count / 8).map(|number| (1, number.to_le_bytes()[0])).collect(),
        };
        vec![of(0), of(3), of(17)]
    }

    fn touch(view: &ArchivedListed) {
        let mut keys = view.counts.iter().map(|entry| &entry.key);
        assert!(keys.all(|key| str::from_utf8(key.as_bytes()).is_ok()));
        let mut streets = view.places.iter().map(|entry| &entry.value.street);
        assert!(streets.all(|text| str::from_utf8(text.as_bytes()).is_ok()));
        std::hint::black_box(view.numbers.iter().map(|number| number.to_native()).max());
    }
}

/// What is in place, and of which not every pattern of bits is a value.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "scalars", version = 1)]
pub struct Scalars {
    tuple: (u8, u32, String),
    array: [u16; 5],
    arrays: [[bool; 3]; 2],
    letter: char,
    letters: Option<[char; 2]>,
    yes: bool,
    big: u128,
    low: i128,
    float: f64,
    single: f32,
    some: NonZeroU32,
    any: Option<NonZeroU64>,
    wait: Duration,
    from: IpAddr,
    to: Option<SocketAddr>,
    none: (),
}

impl Sample for Scalars {
    fn samples() -> Vec<Self> {
        let of = |number: u8, to: Option<SocketAddr>| Self {
            tuple: (number, 1 << number, "a text in a tuple".into()),
            array: [1, 2, 3, 4, u16::from(number)],
            arrays: [[true, false, true], [false; 3]],
            letter: '\u{10ffff}',
            letters: to.map(|_| ['ß', '\u{d7ff}']),
            yes: true,
            big: u128::MAX >> number,
            low: i128::MIN >> number,
            float: if number == 0 { f64::NAN } else { -0.0 },
            single: f32::MIN_POSITIVE,
            some: NonZeroU32::MIN,
            any: NonZeroU64::new(number.into()),
            wait: Duration::new(3, 999_999_999),
            from: IpAddr::V6(Ipv6Addr::LOCALHOST),
            to,
            none: (),
        };
        vec![of(0, None), of(5, Some(([127, 0, 0, 1], 80).into()))]
    }

    fn touch(view: &ArchivedScalars) {
        assert_ne!(view.some.get(), 0);
        assert!(char::from_u32(view.letter.to_native().into()).is_some());
    }
}

/// The first of three versions.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "chain", version = 1)]
pub struct ChainV1 {
    name: String,
    count: u16,
}

impl Sample for ChainV1 {
    fn samples() -> Vec<Self> {
        vec![Self { name: "the oldest of all the names".into(), count: 1 }]
    }
}

/// The second.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "chain", version = 2, from = ChainV1)]
pub struct ChainV2 {
    name: String,
    count: u32,
    words: Vec<String>,
}

impl From<ChainV1> for ChainV2 {
    fn from(old: ChainV1) -> Self {
        let words = old.name.split(' ').map(Into::into).collect();
        Self { name: old.name, count: old.count.into(), words }
    }
}

impl Sample for ChainV2 {
    fn samples() -> Vec<Self> {
        let words = vec!["one".into(), "a word that is long".into()];
        vec![Self { name: "second".into(), count: 2, words }]
    }
}

/// The newest.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "chain", version = 3, from = ChainV2, tag = "count:{count}")]
pub struct Chain {
    names: Vec<String>,
    count: u64,
}

impl From<ChainV2> for Chain {
    fn from(old: ChainV2) -> Self {
        let names = std::iter::once(old.name).chain(old.words).collect();
        Self { names, count: old.count.into() }
    }
}

impl Sample for Chain {
    fn samples() -> Vec<Self> {
        vec![Self { names: vec!["new".into(), "newer than the one before".into()], count: 3 }]
    }
}

/// A structure that contains itself, which only JSON can be.
#[derive(serde::Serialize, serde::Deserialize, Debug, Clone)]
pub struct Reply {
    text: String,
    replies: Vec<Reply>,
}

/// An event of JSON.
#[derive(Event, serde::Serialize, serde::Deserialize, Debug)]
#[event(name = "noted", version = 1, json)]
pub struct Noted {
    text: String,
    number: Option<i64>,
    degrees: f64,
    replies: Vec<Reply>,
    counts: BTreeMap<String, u8>,
}

impl Sample for Noted {
    fn samples() -> Vec<Self> {
        let reply = Reply { text: "no \u{1f600}".into(), replies: Vec::new() };
        let replies = vec![Reply { text: "yes\n".into(), replies: vec![reply.clone()] }, reply];
        let counts = BTreeMap::from([("a".into(), 1), ("b".into(), 255)]);
        vec![Self { text: "a \"note\"".into(), number: Some(-7), degrees: 21.5, replies, counts }]
    }
}

/// A version that was JSON.
#[derive(Event, serde::Serialize, serde::Deserialize, Debug)]
#[event(name = "measured", version = 1, json)]
pub struct MeasuredV1 {
    rooms: Vec<String>,
}

impl Sample for MeasuredV1 {
    fn samples() -> Vec<Self> {
        vec![Self { rooms: vec!["kitchen".into(), "the other kitchen".into()] }]
    }
}

/// The version that followed, which is archived.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "measured", version = 2, from = MeasuredV1)]
pub struct Measured {
    rooms: Vec<(String, Option<f64>)>,
}

impl From<MeasuredV1> for Measured {
    fn from(old: MeasuredV1) -> Self {
        Self { rooms: old.rooms.into_iter().map(|room| (room, None)).collect() }
    }
}

impl Sample for Measured {
    fn samples() -> Vec<Self> {
        vec![Self { rooms: vec![("kitchen".into(), Some(21.5)), ("hall".into(), None)] }]
    }
}

/// An event that the set splits.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "moved", version = 1)]
pub struct Moved {
    from: Vec<u32>,
    to: String,
}

impl Sample for Moved {
    fn samples() -> Vec<Self> {
        vec![
            Self { from: Vec::new(), to: String::new() },
            Self { from: vec![1, 2, 3, u32::MAX], to: "somewhere else entirely".into() },
        ]
    }
}

/// The name's next version, which is not split.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "moved", version = 2, first)]
pub struct MovedOn {
    ways: Vec<(u32, Box<str>)>,
}

impl Sample for MovedOn {
    fn samples() -> Vec<Self> {
        vec![Self { ways: vec![(1, "one".into()), (2, "the way that is longer".into())] }]
    }
}

/// One part of an event that was split.
#[derive(Event, Archive, Serialize, Deserialize, Debug)]
#[rkyv(crate = stratalog::rkyv, derive(Debug))]
#[event(name = "taken", version = 1)]
pub struct Taken {
    from: u32,
}

impl Sample for Taken {
    fn samples() -> Vec<Self> {
        vec![Self { from: 77 }]
    }
}

/// All of them.
#[derive(EventSet, Debug)]
#[event_set(split(Moved, with = taken))]
pub enum Known {
    Texts(Texts),
    Nested(Nested),
    Listed(Listed),
    Scalars(Scalars),
    Chain(Chain),
    Noted(Noted),
    Measured(Measured),
    MovedOn(MovedOn),
    Taken(Taken),
}

fn taken(moved: Moved) -> impl Iterator<Item = Known> {
    let on = MovedOn { ways: vec![(0, moved.to.into())] };
    moved.from.into_iter().map(|from| Taken { from }.into()).chain([on.into()])
}

/// A version of a type, and how valid events of it are made.
#[derive(Debug)]
pub struct Shape {
    /// Its name.
    pub name: &'static str,
    version: u32,
    fingerprint: Fingerprint,
    kind: PayloadKind,
    valid: fn() -> Vec<NewEvent>,
}

/// Each version of each type.
pub const SHAPES: [Shape; 13] = [
    Shape::of::<Texts>(),
    Shape::of::<Nested>(),
    Shape::of::<Listed>(),
    Shape::of::<Scalars>(),
    Shape::of::<ChainV1>(),
    Shape::of::<ChainV2>(),
    Shape::of::<Chain>(),
    Shape::of::<Noted>(),
    Shape::of::<MeasuredV1>(),
    Shape::of::<Measured>(),
    Shape::of::<Moved>(),
    Shape::of::<MovedOn>(),
    Shape::of::<Taken>(),
];

impl Shape {
    const fn of<E: Sample>() -> Self {
        Self {
            name: E::NAME,
            version: E::VERSION,
            fingerprint: E::FINGERPRINT,
            kind: E::LINEAGE.kind,
            valid: || E::samples().iter().map(NewEvent::of).collect(),
        }
    }

    /// Valid payloads.
    pub fn valid(&self) -> impl Iterator<Item = Vec<u8>> {
        (self.valid)().into_iter().map(|event| event.payload().to_vec())
    }

    /// An event that says it is of this shape.
    pub fn with(&self, payload: &[u8]) -> NewEvent {
        match self.kind {
            PayloadKind::Json => json(self.name, payload).json_version(self.version),
            _ => archived(self.name, self.version, self.fingerprint, payload),
        }
    }

    /// One that says something else of itself, which the number chooses; most numbers choose nothing.
    fn with_lie(&self, lie: u8, payload: &[u8]) -> NewEvent {
        match lie {
            1 => archived(self.name, self.version, Fingerprint::opaque("another", 1), payload),
            2 => archived(self.name, self.version + 1, self.fingerprint, payload),
            3 => archived(self.name, self.version.max(2) - 1, self.fingerprint, payload),
            4 => NewEvent::bytes(self.name, payload),
            5 => json(self.name, payload),
            6 => json(self.name, payload).json_version(self.version),
            7 => archived("unknown", self.version, self.fingerprint, payload),
            // What is in front of a payload moves it in its frame.
            8 => self.with(payload).tag("a-tag").metadata(*b"odd"),
            _ => self.with(payload),
        }
    }
}

fn archived(name: &str, version: u32, fingerprint: Fingerprint, payload: &[u8]) -> NewEvent {
    // What is said to be archived has a layout, also where the shape's own events are JSON.
    let fingerprint = match fingerprint {
        Fingerprint::NONE => Fingerprint::opaque("json", 1),
        known => known,
    };
    NewEvent::archived(name, version, fingerprint, payload).expect("versions are from 1 on")
}

/// Whatever the payload is: nothing looks whether one that was changed is still JSON.
fn json(name: &str, payload: &[u8]) -> NewEvent {
    let mut event = NewEvent::json_text(name, "null").expect("this is JSON");
    payload.clone_into(event.payload_mut());
    event
}

/// The event that an input of the fuzz target means: its first byte chooses the shape, its second what is said wrongly of
/// it, and the rest is the payload. None where it has no two bytes.
pub fn of_input(input: &[u8]) -> Option<NewEvent> {
    let [shape, lie, payload @ ..] = input else { return None };
    Some(SHAPES[usize::from(*shape) % SHAPES.len()].with_lie(*lie, payload))
}

/// Valid inputs of the fuzz target, with names for their files.
pub fn inputs() -> impl Iterator<Item = (String, Vec<u8>)> {
    (0_u8..).zip(&SHAPES).flat_map(|(number, shape)| {
        (1..).zip(shape.valid()).map(move |(sample, payload)| {
            let name = format!("{}-{}-{sample}", shape.name, shape.version);
            (name, [&[number, 0], &payload[..]].concat())
        })
    })
}
