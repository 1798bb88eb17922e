//! What the derives refuse, and what the compiler says then; and what compiles.
//!
//! The messages are compared with those of the toolchain that the project is built with. After a change,
//! `TRYBUILD=overwrite cargo test -p stratalog-tests --test compile` writes them anew: read what has changed.

#[test]
fn the_derives_say_what_is_wrong() {
    let cases = trybuild::TestCases::new();
    cases.pass("compile/pass/*.rs");
    cases.compile_fail("compile/fail/*.rs");
}
