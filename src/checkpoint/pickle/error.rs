//! Why a pickle was refused. Every variant names the byte offset inside the pickle. No I/O.

use super::{MAX_INTEGER_BYTES, MAX_LINE, MAX_STACK};

/// Why a pickle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The bytes end before the pickle does.
    #[error("the pickle is cut off at byte {offset}")]
    Truncated {
        /// Where more bytes were needed.
        offset: usize,
    },
    /// Longer than any checkpoint's pickle.
    #[error("no STOP within the first {limit} bytes of the pickle")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// An opcode that exists in no pickle protocol.
    #[error("unknown pickle opcode {opcode:#04x} at byte {offset}")]
    UnknownOpcode {
        /// Position in the pickle.
        offset: usize,
        /// The byte.
        opcode: u8,
    },
    /// A real opcode that no checkpoint needs, such as extension registries or textual persistent ids.
    #[error("pickle opcode {name} at byte {offset} is never needed by a checkpoint and is refused")]
    RefusedOpcode {
        /// Position in the pickle.
        offset: usize,
        /// Name in Python's `pickletools`.
        name: &'static str,
    },
    /// Protocols above 5 do not exist.
    #[error("pickle protocol {version} at byte {offset} does not exist")]
    UnknownProtocol {
        /// Position in the pickle.
        offset: usize,
        /// The number given.
        version: u8,
    },
    /// More values are taken than were put.
    #[error("the pickle takes a value from an empty stack at byte {offset}")]
    StackUnderflow {
        /// Position in the pickle.
        offset: usize,
    },
    /// An opcode needs a MARK that was never set.
    #[error("the pickle uses a mark that was never set at byte {offset}")]
    NoMark {
        /// Position in the pickle.
        offset: usize,
    },
    /// Too many values on the stack.
    #[error("the pickle stacks more than {MAX_STACK} values at byte {offset}")]
    StackTooDeep {
        /// Position in the pickle.
        offset: usize,
    },
    /// The values would need more memory than allowed.
    #[error("the pickle's values need more than {limit} bytes at byte {offset}")]
    TooManyValues {
        /// Position in the pickle.
        offset: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A memo entry that was never put.
    #[error("the pickle recalls memo entry {id} at byte {offset}, which was never stored")]
    MissingMemo {
        /// Position in the pickle.
        offset: usize,
        /// The memo's number.
        id: u32,
    },
    /// A length that is negative.
    #[error("negative length at byte {offset} of the pickle")]
    NegativeLength {
        /// Position in the pickle.
        offset: usize,
    },
    /// An integer wider than any checkpoint's.
    #[error("the integer at byte {offset} of the pickle is longer than {MAX_INTEGER_BYTES} bytes")]
    IntegerTooLong {
        /// Position in the pickle.
        offset: usize,
    },
    /// A number written as text that is not a number.
    #[error("the text at byte {offset} of the pickle is not a number")]
    NotANumber {
        /// Position in the pickle.
        offset: usize,
    },
    /// A line without an end in sight.
    #[error("the line at byte {offset} of the pickle is longer than {MAX_LINE} bytes")]
    LineTooLong {
        /// Position in the pickle.
        offset: usize,
    },
    /// Text that is not UTF-8.
    #[error("the text at byte {offset} of the pickle is not UTF-8")]
    NotUtf8 {
        /// Position in the pickle.
        offset: usize,
    },
    /// A key without its value.
    #[error("the pickle sets a key without a value at byte {offset}")]
    OddItems {
        /// Position in the pickle.
        offset: usize,
    },
    /// Something is put into a value that holds nothing, or a name is not text.
    #[error("pickle opcode {name} at byte {offset} is applied to a value that it does not fit")]
    WrongTarget {
        /// Position in the pickle.
        offset: usize,
        /// Name in Python's `pickletools`.
        name: &'static str,
    },
    /// Values or marks are left over at the end.
    #[error("the pickle stops at byte {offset} with {extra} values left over")]
    LeftOver {
        /// Position in the pickle.
        offset: usize,
        /// How many.
        extra: usize,
    },
}
