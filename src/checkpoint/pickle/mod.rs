//! Pickle streams as plain data: a machine that builds a tree of values and resolves, imports and calls nothing.
//!
//! `GLOBAL` makes a pair of names, `REDUCE` and its kin make an [`Object`] that remembers what would have been called
//! with what; giving these meaning is the caller's work. Values live in one arena and refer to each other by
//! [`NodeId`], so that the memo aliases as Python's does and nothing recurses, neither here nor when dropped. No I/O.

mod error;
mod machine;
mod stack;

pub use error::PickleError;

/// Longest pickle that is read: larger than the pickle of any known checkpoint by a factor of ten.
pub const MAX_PICKLE_BYTES: usize = 64 << 20;

/// What the values of one pickle may take in bytes, unless the caller says otherwise: about 20,000 tensors.
pub const MAX_VALUE_BYTES: usize = 32 << 20;

/// Deepest stack, in values: torch's pickler writes containers in batches of a thousand.
pub const MAX_STACK: usize = 1 << 18;

/// Longest text line of a `GLOBAL` or of a number written as text.
pub const MAX_LINE: usize = 4096;

/// Longest integer, in bytes: torch's magic number needs 10, storage keys and sizes 8.
pub const MAX_INTEGER_BYTES: usize = 256;

/// A range of bytes inside the pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

/// Position of a node in the arena of its [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// One value: a scalar, a piece of the pickle's own bytes, or a reference to a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A wider integer, little-endian two's complement.
    WideInt(Span),
    /// A float.
    Float(f64),
    /// Text: UTF-8, checked.
    Text(Span),
    /// Bytes, or a Python 2 string that is not UTF-8.
    Bytes(Span),
    /// Anything with an identity.
    Node(NodeId),
}

/// A value with an identity.
#[derive(Debug)]
pub enum Node {
    /// A tuple.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// A set or frozen set.
    Set(Vec<Value>),
    /// A plain dict, in order, duplicate keys included.
    Dict(Vec<(Value, Value)>),
    /// The name of a class or function, never resolved.
    Global {
        /// Dotted module name.
        module: Span,
        /// Name inside the module.
        name: Span,
    },
    /// A persistent id: torch's way to name a storage.
    Persistent(Value),
    /// What a call would have made.
    Object(Box<Object>),
}

/// The record of a call that was not made, and of what would have been put into its result.
#[derive(Debug)]
pub struct Object {
    /// What would have been called.
    pub callable: Value,
    /// With which arguments: a tuple.
    pub args: Value,
    /// What `BUILD` would have handed to `__setstate__` or `__dict__`.
    pub state: Option<Value>,
    /// What would have been appended or added.
    pub items: Vec<Value>,
    /// What would have been set by key.
    pub pairs: Vec<(Value, Value)>,
}

/// One parsed pickle: its root value, the arena and the bytes that spans refer to.
#[derive(Debug)]
pub struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    root: Value,
    consumed: usize,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle from the start of `bytes`, to its `STOP`.
    ///
    /// # Errors
    /// [`PickleError`]: truncated, malformed, beyond a limit, or using an opcode that no checkpoint needs.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PickleError> {
        Self::parse_within(bytes, MAX_VALUE_BYTES)
    }

    /// The same with so many bytes for its values.
    ///
    /// # Errors
    /// As [`Pickle::parse`].
    pub fn parse_within(bytes: &'a [u8], value_bytes: usize) -> Result<Self, PickleError> {
        machine::run(bytes, value_bytes)
    }

    /// The value on which the pickle stopped.
    pub fn root(&self) -> Value {
        self.root
    }

    /// Bytes up to and including `STOP`.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    /// Every node with its id, in the order in which they were made.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(at, node)| (NodeId(at as u32), node))
    }

    /// The node behind a value.
    pub fn deref(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(id) => self.node(id),
            _ => None,
        }
    }

    /// The object behind a value.
    pub fn object(&self, value: Value) -> Option<&Object> {
        match self.deref(value)? {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The bytes of a span.
    pub fn bytes(&self, span: Span) -> &'a [u8] {
        self.bytes.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// The text of a span, empty when it is not UTF-8.
    pub fn text(&self, span: Span) -> &'a str {
        std::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    /// The text of a value.
    pub fn as_text(&self, value: Value) -> Option<&'a str> {
        match value {
            Value::Text(span) => Some(self.text(span)),
            _ => None,
        }
    }

    /// The integer of a value.
    pub fn as_int(value: Value) -> Option<i64> {
        match value {
            Value::Int(int) => Some(int),
            _ => None,
        }
    }

    /// The elements of a tuple or list.
    pub fn as_sequence(&self, value: Value) -> Option<&[Value]> {
        match self.deref(value)? {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// Module and name of a global.
    pub fn as_global(&self, value: Value) -> Option<(&'a str, &'a str)> {
        match self.deref(value)? {
            Node::Global { module, name } => Some((self.text(*module), self.text(*name))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
