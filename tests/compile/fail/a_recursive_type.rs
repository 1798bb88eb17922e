use stratalog::Layout;

#[derive(Layout)]
struct Tree {
    children: Vec<Tree>,
}

fn main() {}
