//! The stack machine that runs a pickle's opcodes into an arena. Bounded in bytes, values, stack and memo. No I/O.

use std::collections::HashMap;

use super::{MAX_INTEGER_BYTES, MAX_PICKLE_BYTES, Node, NodeId, Object, Pickle, PickleError, Value};

/// What one value costs inside a growing container: its 16 bytes, twice because containers double when they grow.
const VALUE_COST: usize = 2 * size_of::<Value>();
/// What one memo entry costs in the hash table, with its load factor.
const MEMO_COST: usize = 64;
const NODE_COST: usize = 2 * size_of::<Node>();

pub(super) fn run(bytes: &[u8], limit: usize) -> Result<Pickle<'_>, PickleError> {
    let window = bytes.get(..MAX_PICKLE_BYTES).unwrap_or(bytes);
    let mut machine = Machine {
        bytes: window,
        at: 0,
        op: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        nodes: Vec::new(),
        spent: 0,
        limit,
    };
    let root = loop {
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => break root,
            Err(PickleError::Truncated { .. }) if window.len() < bytes.len() => {
                return Err(PickleError::TooLong { limit: MAX_PICKLE_BYTES });
            }
            Err(error) => return Err(error),
        }
    };
    let extra = machine.stack.len() + machine.marks.len();
    if extra > 0 {
        return Err(PickleError::LeftOver { offset: machine.op, extra });
    }
    Ok(Pickle { bytes, nodes: machine.nodes, root, consumed: machine.at })
}

pub(super) struct Machine<'a> {
    pub(super) bytes: &'a [u8],
    /// Next byte to read.
    pub(super) at: usize,
    /// Offset of the opcode being run, for errors.
    pub(super) op: usize,
    pub(super) stack: Vec<Value>,
    /// Stack heights at each MARK.
    pub(super) marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Node>,
    /// Bytes charged for nodes, their contents and the memo.
    spent: usize,
    /// How many may be spent.
    limit: usize,
}

impl Machine<'_> {
    /// Runs one opcode; the root value when it was STOP.
    fn step(&mut self) -> Result<Option<Value>, PickleError> {
        self.op = self.at;
        let [opcode] = self.array()?;
        match opcode {
            b'.' => return Ok(Some(self.pop()?)),
            b'(' => self.mark()?,
            b'0' => self.discard()?,
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.duplicate()?,
            b'N' | b'I' | b'F' | b'L' | b'J' | b'K' | b'M' | b'G' | 0x88..=0x8b => self.scalar(opcode)?,
            b'T' | b'U' | b'X' | b'B' | b'C' | 0x8c..=0x8e | 0x96 => self.string(opcode)?,
            b')' | b']' | b'}' | b't' | b'l' | b'd' | 0x85..=0x87 | 0x8f | 0x91 => self.container(opcode)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode)?,
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'i' | b'o' | b'b' | b'Q' => self.construct(opcode)?,
            b'p' | b'q' | b'r' | b'g' | b'h' | b'j' | 0x94 => self.memoize(opcode)?,
            0x80 => self.protocol()?,
            0x95 => self.frame()?,
            _ => return Err(self.refuse(opcode)),
        }
        Ok(None)
    }

    fn scalar(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(u8::from_le_bytes(self.array()?).into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let [length] = self.array()?;
                self.long(usize::from(length))?
            }
            0x8b => {
                let length = i32::from_le_bytes(self.array()?);
                let length = usize::try_from(length).map_err(|_| PickleError::NegativeLength { offset: self.op })?;
                self.long(length)?
            }
            _ => self.textual_number(opcode)?,
        };
        self.push(value)
    }

    /// `INT`, `LONG` and `FLOAT` of protocols 0 and 1; `I00` and `I01` are booleans there.
    fn textual_number(&mut self, opcode: u8) -> Result<Value, PickleError> {
        let not_a_number = PickleError::NotANumber { offset: self.op };
        let span = self.line()?;
        let line = std::str::from_utf8(&self.bytes[span.start as usize..span.end as usize]).unwrap_or_default();
        let value = match (opcode, line) {
            (b'I', "00") => Some(Value::Bool(false)),
            (b'I', "01") => Some(Value::Bool(true)),
            (b'F', _) => line.parse().ok().map(Value::Float),
            _ => line.strip_suffix('L').unwrap_or(line).parse().ok().map(Value::Int),
        };
        value.ok_or(not_a_number)
    }

    fn long(&mut self, length: usize) -> Result<Value, PickleError> {
        if length > MAX_INTEGER_BYTES {
            return Err(PickleError::IntegerTooLong { offset: self.op });
        }
        let span = self.take(length)?;
        let digits = &self.bytes[span.start as usize..span.end as usize];
        if digits.len() > 8 {
            return Ok(Value::WideInt(span));
        }
        let negative = digits.last().is_some_and(|top| top & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..digits.len()].copy_from_slice(digits);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    fn string(&mut self, opcode: u8) -> Result<(), PickleError> {
        let length = match opcode {
            b'U' | b'C' | 0x8c => u64::from(u8::from_le_bytes(self.array()?)),
            b'X' | b'B' => u64::from(u32::from_le_bytes(self.array()?)),
            b'T' => u64::try_from(i32::from_le_bytes(self.array()?))
                .map_err(|_| PickleError::NegativeLength { offset: self.op })?,
            _ => u64::from_le_bytes(self.array()?),
        };
        let length = usize::try_from(length).map_err(|_| PickleError::Truncated { offset: self.op })?;
        let span = self.take(length)?;
        let utf8 = std::str::from_utf8(&self.bytes[span.start as usize..span.end as usize]).is_ok();
        let value = match opcode {
            b'X' | 0x8c | 0x8d if !utf8 => return Err(PickleError::NotUtf8 { offset: self.op }),
            b'X' | 0x8c | 0x8d => Value::Text(span),
            // Python 2 wrote names as byte strings.
            b'T' | b'U' if utf8 => Value::Text(span),
            _ => Value::Bytes(span),
        };
        self.push(value)
    }

    fn container(&mut self, opcode: u8) -> Result<(), PickleError> {
        let node = match opcode {
            b')' => Node::Tuple(Vec::new()),
            b']' => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            0x8f => Node::Set(Vec::new()),
            0x85..=0x87 => Node::Tuple(self.pop_many(usize::from(opcode - 0x84))?),
            b't' => Node::Tuple(self.pop_to_mark()?),
            b'l' => Node::List(self.pop_to_mark()?),
            b'd' => {
                let items = self.pop_to_mark()?;
                Node::Dict(self.pairs(&items)?)
            }
            _ => Node::Set(self.pop_to_mark()?),
        };
        let held = match &node {
            Node::Tuple(items) | Node::List(items) | Node::Set(items) => items.len(),
            Node::Dict(pairs) => 2 * pairs.len(),
            _ => 0,
        };
        self.charge(held * VALUE_COST)?;
        self.push_node(node)
    }

    /// APPEND, APPENDS, SETITEM, SETITEMS and ADDITEMS.
    fn fill(&mut self, opcode: u8) -> Result<(), PickleError> {
        let items = match opcode {
            b'a' => self.pop_many(1)?,
            b's' => self.pop_many(2)?,
            _ => self.pop_to_mark()?,
        };
        self.charge(items.len() * VALUE_COST)?;
        let by_key = matches!(opcode, b's' | b'u');
        let pairs = if by_key { self.pairs(&items)? } else { Vec::new() };
        let name = match opcode {
            b'a' => "APPEND",
            b'e' => "APPENDS",
            b's' => "SETITEM",
            b'u' => "SETITEMS",
            _ => "ADDITEMS",
        };
        let wrong = PickleError::WrongTarget { offset: self.op, name };
        let top = *self.stack.last().ok_or(PickleError::StackUnderflow { offset: self.op })?;
        let Value::Node(NodeId(id)) = top else { return Err(wrong) };
        match self.nodes.get_mut(id as usize) {
            Some(Node::Object(object)) if by_key => object.pairs.extend(pairs),
            Some(Node::Object(object)) => object.items.extend(items),
            Some(Node::Dict(held)) if by_key => held.extend(pairs),
            Some(Node::List(held)) if matches!(opcode, b'a' | b'e') => held.extend(items),
            Some(Node::Set(held)) if opcode == 0x90 => held.extend(items),
            _ => return Err(wrong),
        }
        Ok(())
    }

    /// Globals, calls, instances, state and persistent ids: recorded, not made.
    fn construct(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b'c' => {
                let node = self.global()?;
                self.push_node(node)
            }
            0x93 => match self.pop_many(2)?.as_slice() {
                &[Value::Text(module), Value::Text(name)] => self.push_node(Node::Global { module, name }),
                _ => Err(PickleError::WrongTarget { offset: self.op, name: "STACK_GLOBAL" }),
            },
            b'Q' => {
                let id = self.pop()?;
                self.push_node(Node::Persistent(id))
            }
            b'b' => self.build(),
            b'i' => {
                let global = self.global()?;
                let callable = self.add(global)?;
                let args = self.pop_to_mark()?;
                self.charge(args.len() * VALUE_COST)?;
                let args = self.add(Node::Tuple(args))?;
                self.push_object(callable, args)
            }
            b'o' => {
                let mut args = self.pop_to_mark()?;
                if args.is_empty() {
                    return Err(PickleError::StackUnderflow { offset: self.op });
                }
                let callable = args.remove(0);
                self.charge(args.len() * VALUE_COST)?;
                let args = self.add(Node::Tuple(args))?;
                self.push_object(callable, args)
            }
            0x92 => {
                let keywords = self.pop()?;
                let (callable, args) = self.pop_two()?;
                self.push_object(callable, args)?;
                self.push(keywords)?;
                self.build()
            }
            _ => {
                let (callable, args) = self.pop_two()?;
                self.push_object(callable, args)
            }
        }
    }

    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop()?;
        let wrong = PickleError::WrongTarget { offset: self.op, name: "BUILD" };
        match self.stack.last() {
            Some(&Value::Node(NodeId(id))) => match self.nodes.get_mut(id as usize) {
                Some(Node::Object(object)) => {
                    object.state = Some(state);
                    Ok(())
                }
                _ => Err(wrong),
            },
            Some(_) => Err(wrong),
            None => Err(PickleError::StackUnderflow { offset: self.op }),
        }
    }

    fn memoize(&mut self, opcode: u8) -> Result<(), PickleError> {
        let id = match opcode {
            b'q' | b'h' => u8::from_le_bytes(self.array()?).into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            0x94 => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
            _ => {
                let span = self.line()?;
                let line = std::str::from_utf8(&self.bytes[span.start as usize..span.end as usize]);
                let id = line.ok().and_then(|line| line.parse().ok());
                id.ok_or(PickleError::NotANumber { offset: self.op })?
            }
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let value = self.memo.get(&id).copied();
            return self.push(value.ok_or(PickleError::MissingMemo { offset: self.op, id })?);
        }
        let value = *self.stack.last().ok_or(PickleError::StackUnderflow { offset: self.op })?;
        self.charge(MEMO_COST)?;
        self.memo.insert(id, value);
        Ok(())
    }

    fn protocol(&mut self) -> Result<(), PickleError> {
        let [version] = self.array()?;
        if version > 5 {
            return Err(PickleError::UnknownProtocol { offset: self.op, version });
        }
        Ok(())
    }

    /// A frame only promises that so many bytes follow.
    fn frame(&mut self) -> Result<(), PickleError> {
        let length = u64::from_le_bytes(self.array()?);
        if length > (self.bytes.len() - self.at) as u64 {
            return Err(PickleError::Truncated { offset: self.op });
        }
        Ok(())
    }

    fn refuse(&self, opcode: u8) -> PickleError {
        let name = match opcode {
            b'P' => "PERSID",
            b'S' => "STRING",
            b'V' => "UNICODE",
            0x82 => "EXT1",
            0x83 => "EXT2",
            0x84 => "EXT4",
            0x97 => "NEXT_BUFFER",
            0x98 => "READONLY_BUFFER",
            _ => return PickleError::UnknownOpcode { offset: self.op, opcode },
        };
        PickleError::RefusedOpcode { offset: self.op, name }
    }

    fn global(&mut self) -> Result<Node, PickleError> {
        let module = self.line()?;
        let name = self.line()?;
        for span in [module, name] {
            if std::str::from_utf8(&self.bytes[span.start as usize..span.end as usize]).is_err() {
                return Err(PickleError::NotUtf8 { offset: self.op });
            }
        }
        Ok(Node::Global { module, name })
    }

    fn pairs(&self, items: &[Value]) -> Result<Vec<(Value, Value)>, PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(PickleError::OddItems { offset: self.op });
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), PickleError> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > self.limit {
            return Err(PickleError::TooManyValues { offset: self.op, limit: self.limit });
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<Value, PickleError> {
        let object = if matches!(node, Node::Object(_)) { size_of::<Object>() } else { 0 };
        self.charge(NODE_COST + object)?;
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(node);
        Ok(Value::Node(id))
    }

    fn push_node(&mut self, node: Node) -> Result<(), PickleError> {
        let value = self.add(node)?;
        self.push(value)
    }

    fn push_object(&mut self, callable: Value, args: Value) -> Result<(), PickleError> {
        let object = Object { callable, args, state: None, items: Vec::new(), pairs: Vec::new() };
        self.push_node(Node::Object(Box::new(object)))
    }
}
