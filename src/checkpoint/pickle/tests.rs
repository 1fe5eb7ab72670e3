use proptest::prelude::*;

use super::*;

fn parse(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
    Pickle::parse(bytes)
}

#[test]
fn the_memo_aliases_what_is_filled_later() {
    // d = {}; [d, d] with d["k"] = 1 set after it was memoised.
    let bytes = b"\x80\x02]q\x00(}q\x01U\x01kK\x01sh\x01e. and more";
    let pickle = parse(bytes).unwrap();
    let items = pickle.as_sequence(pickle.root()).unwrap();
    assert_eq!(items[0], items[1]);
    assert!(matches!(pickle.deref(items[1]), Some(Node::Dict(pairs)) if pairs.len() == 1));
    assert_eq!(pickle.consumed(), bytes.len() - " and more".len());
}

#[test]
fn calls_are_recorded_and_not_made() {
    let pickle = parse(b"\x80\x02cos\nsystem\n(U\x02lstR.").unwrap();
    let object = pickle.object(pickle.root()).unwrap();
    assert_eq!(pickle.as_global(object.callable), Some(("os", "system")));
    let args = pickle.as_sequence(object.args).unwrap();
    assert_eq!(pickle.as_text(args[0]), Some("ls"));
}

#[test]
fn numbers_of_every_opcode() {
    for (bytes, expected) in [
        (&b"K\xff."[..], Value::Int(255)),
        (b"M\x01\x02.", Value::Int(0x201)),
        (b"J\xff\xff\xff\xff.", Value::Int(-1)),
        (b"\x8a\x00.", Value::Int(0)),
        (b"\x8a\x01\xfe.", Value::Int(-2)),
        (b"\x8b\x02\x00\x00\x00\x00\x80.", Value::Int(-32768)),
        (b"I01\n.", Value::Bool(true)),
        (b"I-12\n.", Value::Int(-12)),
        (b"L77L\n.", Value::Int(77)),
        (b"F1.5\n.", Value::Float(1.5)),
        (b"G\x3f\xf8\0\0\0\0\0\0.", Value::Float(1.5)),
        (b"\x88.", Value::Bool(true)),
        (b"N.", Value::None),
    ] {
        assert_eq!(parse(bytes).unwrap().root(), expected, "{bytes:?}");
    }
    assert!(matches!(parse(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.").unwrap().root(), Value::WideInt(_)));
}

#[test]
fn each_fault_has_its_own_error() {
    use PickleError as E;
    let long_line = [b"c".as_slice(), &[b'a'; MAX_LINE + 1]].concat();
    let deep = [vec![b'N'; MAX_STACK + 1], vec![b'.']].concat();
    let many = [b"]".repeat(3), b"]0".repeat(4 << 20), b"00.".to_vec()].concat();
    type Case<'a> = (&'a [u8], fn(&E) -> bool);
    let cases: Vec<Case<'_>> = vec![
        (b"", |e| matches!(e, E::Truncated { offset: 0 })),
        (b"]", |e| matches!(e, E::Truncated { offset: 1 })),
        (b"X\xff\xff\xff\xffabc.", |e| matches!(e, E::Truncated { .. })),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc.", |e| matches!(e, E::Truncated { .. })),
        (b"\x95\xff\0\0\0\0\0\0\0N.", |e| matches!(e, E::Truncated { .. })),
        (b"\xfe.", |e| matches!(e, E::UnknownOpcode { opcode: 0xfe, .. })),
        (b"Pabc\n.", |e| matches!(e, E::RefusedOpcode { name: "PERSID", .. })),
        (b"\x82\x01.", |e| matches!(e, E::RefusedOpcode { name: "EXT1", .. })),
        (b"\x97.", |e| matches!(e, E::RefusedOpcode { name: "NEXT_BUFFER", .. })),
        (b"\x80\x06N.", |e| matches!(e, E::UnknownProtocol { version: 6, .. })),
        (b".", |e| matches!(e, E::StackUnderflow { .. })),
        (b"N(\x85.", |e| matches!(e, E::StackUnderflow { .. })),
        (b"Nt.", |e| matches!(e, E::NoMark { .. })),
        (b"h\x07.", |e| matches!(e, E::MissingMemo { id: 7, .. })),
        (b"\x8b\xff\xff\xff\xff.", |e| matches!(e, E::NegativeLength { .. })),
        (b"T\xff\xff\xff\xff.", |e| matches!(e, E::NegativeLength { .. })),
        (b"\x8b\x01\x01\0\0.", |e| matches!(e, E::IntegerTooLong { .. })),
        (b"Ifoo\n.", |e| matches!(e, E::NotANumber { .. })),
        (b"X\x01\0\0\0\xff.", |e| matches!(e, E::NotUtf8 { .. })),
        (b"}(Nu.", |e| matches!(e, E::OddItems { .. })),
        (b"K\x01Na.", |e| matches!(e, E::WrongTarget { name: "APPEND", .. })),
        (b")}b.", |e| matches!(e, E::WrongTarget { name: "BUILD", .. })),
        (b"NN.", |e| matches!(e, E::LeftOver { extra: 1, .. })),
        (&long_line, |e| matches!(e, E::LineTooLong { .. })),
        (&deep, |e| matches!(e, E::StackTooDeep { .. })),
        (&many, |e| matches!(e, E::TooManyValues { .. })),
    ];
    for (bytes, expected) in cases {
        let error = parse(bytes).unwrap_err();
        assert!(expected(&error), "{:?} gave {error:?}", &bytes[..bytes.len().min(20)]);
    }
}

#[test]
fn a_hundred_thousand_nested_tuples_are_built_and_dropped() {
    let bytes = [b"N".to_vec(), b"\x85".repeat(100_000), b".".to_vec()].concat();
    assert_eq!(parse(&bytes).unwrap().nodes().count(), 100_000);
}

const OPCODES: &[&[u8]] = &[
    b"(",
    b"0",
    b"1",
    b"2",
    b"N",
    b"K\x05",
    b"]",
    b"}",
    b")",
    b"t",
    b"l",
    b"d",
    b"\x85",
    b"\x86",
    b"\x8f",
    b"a",
    b"e",
    b"s",
    b"u",
    b"\x90",
    b"\x91",
    b"R",
    b"b",
    b"\x81",
    b"\x92",
    b"o",
    b"Q",
    b"ca\nb\n",
    b"ia\nb\n",
    b"q\x01",
    b"h\x01",
    b"\x94",
    b"U\x01x",
    b"\x93",
    b"X\x01\0\0\0y",
];

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(pickle) = parse(&bytes) {
            prop_assert!(pickle.consumed() <= bytes.len());
        }
    }

    /// Streams made of opcodes reach deeper than random bytes.
    #[test]
    fn no_opcodes_panic(ops in proptest::collection::vec(proptest::sample::select(OPCODES), 0..60)) {
        let bytes = [ops.concat(), b".".to_vec()].concat();
        let _ = parse(&bytes);
    }
}
