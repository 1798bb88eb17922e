use stratalog::Layout;

#[derive(Layout)]
struct Upload {
    #[rkyv(with = AsString)]
    path: u32,
    #[layout(opaque = "path")]
    other: u32,
}

fn main() {}
