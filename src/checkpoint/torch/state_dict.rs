//! Which part of a checkpoint is the state dict, and what its tensors are called. No I/O.

use std::collections::{HashMap, HashSet};

use super::super::pickle::{Node, NodeId, Object, Pickle, Value};
use super::TorchError;
use super::globals::printable;
use super::tensor::{self, Reading, Storages, TensorLayout};

/// Most tensors in one checkpoint: ten times those of the largest published mixture of experts.
const MAX_TENSORS: usize = 1 << 20;
/// What is kept of one tensor while a checkpoint is opened, its name and dimensions apart.
pub(in super::super) const TENSOR_BYTES: usize = 1 << 10;
/// How often its name is kept.
pub(in super::super) const NAME_COPIES: usize = 6;
/// Bytes of each dimension: extents and strides, thrice.
const DIMENSION_BYTES: usize = 48;
/// Most modules, parameters and buffers visited, and deepest nesting: a module that contains itself reaches one of them.
const MAX_VISITED: usize = 4 << 20;
const MAX_NESTING: usize = 1000;
/// What a tensor is called that was saved by itself.
pub(in super::super) const BARE: &str = "tensor";
/// Keys shown in a message.
pub(super) const SHOWN_KEYS: usize = 12;

/// How to find the tensors.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Selection<'a> {
    /// The key of the dict or module to read; found automatically when absent.
    pub(in super::super) key: Option<&'a str>,
    /// Whether the root is an object tree whose every attribute counts (TorchScript).
    pub(in super::super) attributes: bool,
    /// How many bytes the list of tensors may take.
    pub(in super::super) listing: usize,
}

/// One named tensor, or the reason why it is not read.
#[derive(Debug)]
pub(in super::super) struct Found {
    pub(in super::super) name: String,
    pub(in super::super) tensor: Result<TensorLayout, String>,
}

/// Finds the state dict and lists its tensors in its order.
pub(in super::super) fn collect(
    pickle: &Pickle<'_>,
    selection: Selection<'_>,
    storages: &mut Storages,
) -> Result<Vec<Found>, TorchError> {
    let chosen = match selection.key {
        Some(key) => by_key(pickle, key)?,
        None if selection.attributes => pickle.root(),
        None => automatic(pickle)?,
    };
    let mut collector = Collector {
        pickle,
        storages,
        found: Vec::new(),
        positions: HashMap::new(),
        room: selection.listing,
        tensors: 0,
    };
    if selection.attributes {
        collector.tree(chosen, attributes)?;
    } else if is_module(pickle, chosen) {
        collector.tree(chosen, module_parts)?;
    } else {
        collector.flat(chosen)?;
    }
    // Objects that are no tensors are listed as skipped, but do not make a checkpoint.
    let tensors = collector.tensors;
    if tensors == 0 {
        return Err(TorchError::NoTensors { root: describe(pickle, chosen) });
    }
    Ok(collector.found)
}

/// The key–value pairs of anything that is a dict, duplicates included.
pub(super) fn entries(pickle: &Pickle<'_>, value: Value) -> Option<Vec<(Value, Value)>> {
    match pickle.deref(value)? {
        Node::Dict(pairs) => Some(pairs.clone()),
        Node::Object(object) => {
            let known = matches!(
                pickle.as_global(object.callable),
                Some(
                    ("collections", "OrderedDict" | "defaultdict" | "Counter")
                        | ("builtins" | "__builtin__", "dict")
                        | ("torch.jit._pickle", "restore_type_tag")
                )
            );
            (known || !object.pairs.is_empty()).then(|| object_pairs(pickle, object))
        }
        _ => None,
    }
}

/// What the call was given (`OrderedDict([[k, v], …])` of Python 2) and what was set afterwards.
fn object_pairs(pickle: &Pickle<'_>, object: &Object) -> Vec<(Value, Value)> {
    let args = pickle.as_sequence(object.args).unwrap_or_default();
    let mut all = Vec::new();
    for &arg in args {
        match pickle.deref(arg) {
            Some(Node::Dict(pairs)) => all.extend_from_slice(pairs),
            Some(Node::List(items)) => {
                all.extend(items.iter().filter_map(|&item| match pickle.as_sequence(item) {
                    Some(&[key, value]) => Some((key, value)),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    all.extend_from_slice(&object.pairs);
    all
}

fn key_text(pickle: &Pickle<'_>, key: Value) -> Option<String> {
    match key {
        Value::Text(span) => Some(pickle.text(span).to_owned()),
        Value::Int(number) => Some(number.to_string()),
        // Python 2 names that are not UTF-8: Latin-1, as torch decodes them.
        Value::Bytes(span) => Some(pickle.bytes(span).iter().map(|&byte| char::from(byte)).collect()),
        _ => None,
    }
}

fn get(pickle: &Pickle<'_>, value: Value, key: &str) -> Option<Value> {
    let pairs = entries(pickle, value)?;
    let last = pairs.iter().rev().find(|&&(name, _)| key_text(pickle, name).as_deref() == Some(key));
    last.map(|&(_, value)| value)
}

/// The attributes that `BUILD` gave to an object.
fn attribute(pickle: &Pickle<'_>, value: Value, name: &str) -> Option<Value> {
    get(pickle, pickle.object(value)?.state?, name)
}

fn is_module(pickle: &Pickle<'_>, value: Value) -> bool {
    attribute(pickle, value, "_parameters").is_some() && attribute(pickle, value, "_modules").is_some()
}

/// Whether the value itself, not what is nested in it, holds tensors.
fn holds_tensors(pickle: &Pickle<'_>, value: Value) -> bool {
    if is_module(pickle, value) {
        return true;
    }
    if let Some(items) = pickle.as_sequence(value) {
        return items.iter().any(|&item| tensor::is_tensor(pickle, item));
    }
    entries(pickle, value).is_some_and(|pairs| pairs.iter().any(|&(_, value)| tensor::is_tensor(pickle, value)))
}

/// Follows `key` from the root: the whole key first, else its parts between dots.
fn by_key(pickle: &Pickle<'_>, key: &str) -> Result<Value, TorchError> {
    let mut at = pickle.root();
    let mut rest = key;
    while !rest.is_empty() {
        if let Some(value) = step(pickle, at, rest) {
            return Ok(value);
        }
        let missing = || TorchError::NoSuchKey { key: printable(key), available: key_list(pickle, at) };
        let (first, tail) = rest.split_once('.').ok_or_else(missing)?;
        at = step(pickle, at, first).ok_or_else(missing)?;
        rest = tail;
    }
    Ok(at)
}

fn step(pickle: &Pickle<'_>, at: Value, key: &str) -> Option<Value> {
    if let Some(items) = pickle.as_sequence(at) {
        return items.get(key.parse::<usize>().ok()?).copied();
    }
    get(pickle, at, key)
}

fn automatic(pickle: &Pickle<'_>) -> Result<Value, TorchError> {
    let root = pickle.root();
    if tensor::is_tensor(pickle, root) || is_module(pickle, root) {
        return Ok(root);
    }
    let Some(pairs) = entries(pickle, root) else {
        return if holds_tensors(pickle, root) {
            Ok(root)
        } else {
            Err(TorchError::NoTensors { root: describe(pickle, root) })
        };
    };
    if get(pickle, root, "pytorch-lightning_version").is_some()
        && let Some(state_dict) = get(pickle, root, "state_dict")
    {
        return Ok(state_dict);
    }
    let mut candidates = Vec::new();
    // Many keys may name one big dict: look into each only once.
    let mut known: HashMap<NodeId, bool> = HashMap::new();
    if holds_tensors(pickle, root) {
        candidates.push((String::new(), root));
    }
    for &(key, value) in &pairs {
        let Some(name) = key_text(pickle, key) else { continue };
        // Optimizers hold tensors of the same shapes; `_extra_state` is no parameter.
        let other = name.starts_with("optim") || name.ends_with("_extra_state") || tensor::is_tensor(pickle, value);
        let Value::Node(id) = value else { continue };
        if !other && *known.entry(id).or_insert_with(|| holds_tensors(pickle, value)) {
            candidates.push((name, value));
        }
    }
    // Python keeps the last value of a repeated key.
    let mut seen = HashSet::new();
    candidates.reverse();
    candidates.retain(|(name, _)| seen.insert(name.clone()));
    candidates.reverse();
    match candidates.as_slice() {
        [] => Err(TorchError::NoTensors { root: describe(pickle, root) }),
        [(_, only)] => Ok(*only),
        several => {
            let names: Vec<String> = several
                .iter()
                .take(SHOWN_KEYS)
                .map(|(name, _)| if name.is_empty() { "the top level \"\"".to_owned() } else { printable(name) })
                .collect();
            Err(TorchError::Ambiguous { candidates: names.join(", ") })
        }
    }
}

fn key_list(pickle: &Pickle<'_>, value: Value) -> String {
    let pairs = entries(pickle, value).unwrap_or_default();
    let mut names: Vec<String> = pairs
        .iter()
        .filter_map(|&(key, _)| key_text(pickle, key))
        .take(SHOWN_KEYS)
        .map(|key| printable(&key))
        .collect();
    if pairs.len() > SHOWN_KEYS {
        names.push("…".to_owned());
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A value in a few words, for messages.
fn describe(pickle: &Pickle<'_>, value: Value) -> String {
    let what = match value {
        Value::None => "None",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::WideInt(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Text(_) => "a text",
        Value::Bytes(_) => "bytes",
        Value::Node(_) => match pickle.deref(value) {
            Some(Node::Tuple(_)) => "a tuple",
            Some(Node::List(_)) => "a list",
            Some(Node::Set(_)) => "a set",
            Some(Node::Dict(pairs)) if pairs.is_empty() => "an empty dict",
            Some(Node::Dict(_)) => return format!("a dict with the keys {}", key_list(pickle, value)),
            Some(Node::Global { .. }) => "the name of a class",
            Some(Node::Persistent(_)) => "a storage",
            Some(Node::Object(object)) => return describe_object(pickle, value, object),
            None => "nothing",
        },
    };
    what.to_owned()
}

fn describe_object(pickle: &Pickle<'_>, value: Value, object: &Object) -> String {
    let class = class_name(pickle, object);
    match entries(pickle, value) {
        Some(pairs) if pairs.is_empty() => format!("an empty {class}"),
        Some(_) => format!("an {class} with the keys {}", key_list(pickle, value)),
        None => format!("an object of {class}"),
    }
}

fn class_name(pickle: &Pickle<'_>, object: &Object) -> String {
    match pickle.as_global(object.callable) {
        Some((module, name)) => printable(&format!("{module}.{name}")),
        None => "an unnamed class".to_owned(),
    }
}

/// What one object of a tree contributes: its own named values, then its children.
type Parts = (Vec<(Value, Value)>, Vec<(Value, Value)>);

/// Parameters, persistent buffers and submodules of a pickled module, as `state_dict()` orders them.
fn module_parts(pickle: &Pickle<'_>, module: Value) -> Parts {
    let part = |name| attribute(pickle, module, name).and_then(|part| entries(pickle, part)).unwrap_or_default();
    let passing: HashSet<String> = match attribute(pickle, module, "_non_persistent_buffers_set") {
        Some(set) => set_items(pickle, set).iter().filter_map(|&name| key_text(pickle, name)).collect(),
        None => HashSet::new(),
    };
    let mut own = part("_parameters");
    let buffers = part("_buffers").into_iter();
    own.extend(buffers.filter(|&(key, _)| key_text(pickle, key).is_none_or(|key| !passing.contains(&key))));
    (own, part("_modules"))
}

/// Every attribute of a scripted object: tensors are its own, objects are children.
fn attributes(pickle: &Pickle<'_>, object: Value) -> Parts {
    let state = pickle.object(object).and_then(|object| object.state);
    let all = state.and_then(|state| entries(pickle, state)).unwrap_or_default();
    all.into_iter().partition(|&(_, value)| tensor::is_tensor(pickle, value) || pickle.object(value).is_none())
}

/// `{…}` of protocol 4, or `set([…])` before it.
fn set_items(pickle: &Pickle<'_>, value: Value) -> Vec<Value> {
    match pickle.deref(value) {
        Some(Node::Set(items)) => items.clone(),
        Some(Node::Object(object)) => {
            let args = pickle.as_sequence(object.args).unwrap_or_default();
            let first = args.first().and_then(|&first| pickle.as_sequence(first));
            first.unwrap_or_default().iter().chain(&object.items).copied().collect()
        }
        _ => Vec::new(),
    }
}

struct Collector<'c, 'p> {
    pickle: &'c Pickle<'p>,
    storages: &'c mut Storages,
    found: Vec<Found>,
    /// Position of each name: Python keeps the last value of a repeated key, at the place of the first.
    positions: HashMap<String, usize>,
    /// Bytes that the list may still grow by.
    room: usize,
    /// How many of `found` are tensors of any kind.
    tensors: usize,
}

impl Collector<'_, '_> {
    /// One dict, sequence or bare tensor.
    fn flat(&mut self, value: Value) -> Result<(), TorchError> {
        if tensor::is_tensor(self.pickle, value) {
            return self.add(BARE.to_owned(), value);
        }
        if let Some(pairs) = entries(self.pickle, value) {
            for (key, value) in pairs {
                if let Some(name) = key_text(self.pickle, key) {
                    self.add(name, value)?;
                }
            }
            return Ok(());
        }
        for (at, &item) in self.pickle.as_sequence(value).unwrap_or_default().iter().enumerate() {
            self.add(at.to_string(), item)?;
        }
        Ok(())
    }

    /// A tree of objects, depth first, names joined by dots; the stack is on the heap.
    fn tree(&mut self, root: Value, parts: fn(&Pickle<'_>, Value) -> Parts) -> Result<(), TorchError> {
        let mut pending = vec![(String::new(), root, 0usize)];
        let mut visited = 0;
        while let Some((prefix, object, depth)) = pending.pop() {
            if depth > MAX_NESTING {
                return Err(TorchError::TooDeep { limit: MAX_NESTING });
            }
            if visited + pending.len() > MAX_VISITED {
                return Err(TorchError::TooMany { limit: MAX_VISITED, what: "modules, parameters and buffers" });
            }
            let (own, children) = parts(self.pickle, object);
            visited += 1 + own.len() + children.len();
            for (key, value) in own {
                if let Some(key) = key_text(self.pickle, key) {
                    self.add(format!("{prefix}{key}"), value)?;
                }
            }
            for (key, child) in children.into_iter().rev() {
                let Some(key) = key_text(self.pickle, key).filter(|_| self.pickle.object(child).is_some()) else {
                    continue;
                };
                let below = format!("{prefix}{key}.");
                self.charge(below.len())?;
                pending.push((below, child, depth + 1));
            }
        }
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), TorchError> {
        let left = self.room.checked_sub(bytes);
        self.room = left.ok_or(TorchError::TooMany { limit: self.found.len(), what: "tensors in so short a file" })?;
        Ok(())
    }

    fn add(&mut self, name: String, value: Value) -> Result<(), TorchError> {
        let tensor = match tensor::read(self.pickle, value, self.storages, &name) {
            Some(reading) => match reading? {
                Reading::Tensor(layout) => Ok(layout),
                Reading::Unreadable(what) => Err(what),
            },
            None => match self.pickle.object(value) {
                // Scalars, None and extra state are no tensors; an object might have been meant as one.
                Some(object) if !name.ends_with("_extra_state") && entries(self.pickle, value).is_none() => {
                    Err(format!("an object of {}, which is not interpreted", class_name(self.pickle, object)))
                }
                _ => return Ok(()),
            },
        };
        let dimensions = tensor.as_ref().map_or(0, |layout| layout.shape.len());
        self.charge(TENSOR_BYTES + NAME_COPIES * name.len() + DIMENSION_BYTES * dimensions)?;
        self.tensors += usize::from(tensor::is_tensor(self.pickle, value));
        let found = Found { name, tensor };
        if let Some(slot) = self.positions.get(&found.name).and_then(|&at| self.found.get_mut(at)) {
            *slot = found;
            return Ok(());
        }
        if self.found.len() >= MAX_TENSORS {
            return Err(TorchError::TooMany { limit: MAX_TENSORS, what: "tensors" });
        }
        self.positions.insert(found.name.clone(), self.found.len());
        self.found.push(found);
        Ok(())
    }
}
