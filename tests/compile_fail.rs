//! What may not live in shared memory, or would break a promise, does not compile; the message says what to do
//! instead. After a change of wording or compiler: `TRYBUILD=overwrite cargo test --test compile_fail`, and look.
#![allow(missing_docs)]

#[test]
fn what_would_break_a_promise_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

#[test]
fn a_refused_type_comes_with_what_to_use_instead() {
    let message = |case: &str| {
        let path = format!("{}/tests/compile_fail/{case}.stderr", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("the compiler's message")
    };
    for (case, refused, instead) in [
        ("bool", "`bool` may not live in shared memory", "instead of `bool` use `memlane::Bool`"),
        ("char", "`char` may not live in shared memory", "of `char` use `u32`"),
        ("usize", "`usize` may not live in shared memory", "of `usize` use `u64`"),
        ("text_and_vec", "`String` may not live in shared memory", "instead of `String`, `Vec` or a reference use"),
        ("plain_enum", "an enum may not live in shared memory", "use an integer"),
        ("no_repr_c", "add #[repr(C)]", "the layout must be the same in every program"),
        ("tuple_struct", "name the fields", "their names are part of what two programs agree on"),
    ] {
        let message = message(case);
        assert!(message.contains(refused) && message.contains(instead), "{case}: {message}");
    }
}
