//! What the `.metadata` of a `torch.distributed.checkpoint` folder says: which tensors there are, into which pieces each
//! was cut, and in which file the bytes of each piece lie. Works on the parsed pickle alone; no I/O.
//!
//! Written by torch 2.1 and later as a pickle of dataclasses (`torch/distributed/checkpoint/metadata.py`); they are read
//! by the names of their fields.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::super::pickle::{Node, Pickle, Value};
use super::TorchError;
use super::globals::{self, printable};
use super::state_dict::{SHOWN_KEYS, entries};
use super::tensor::{MAX_DIMENSIONS, sizes};
use crate::tensor::Dtype;

/// Most pieces of all tensors together: what a thousand processes write of a thousand tensors.
const MAX_PIECES: usize = 1 << 20;
/// Most fields of one dataclass; they have at most six. A dict that many objects share must not cost its length each time.
const MAX_FIELDS: usize = 16;
/// Longest file name: that of common file systems.
const MAX_FILE_NAME: usize = 255;
/// The class of the whole.
const METADATA: (&str, &str) = ("torch.distributed.checkpoint.metadata", "Metadata");

/// One tensor of the folder.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Entry {
    /// Its name, below the key that was chosen.
    pub(in super::super) name: String,
    /// Shape of the whole.
    pub(in super::super) shape: Vec<usize>,
    /// What the metadata say of its elements, when that is a dtype we know.
    pub(in super::super) dtype: Option<Dtype>,
    /// Its pieces, those without elements left out.
    pub(in super::super) pieces: Vec<Piece>,
}

/// One piece of a tensor.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Piece {
    /// The file that holds it, as the metadata name it.
    pub(in super::super) file: String,
    /// Where in that file.
    pub(in super::super) range: Range<u64>,
    /// Index of its first element in the whole.
    pub(in super::super) at: Vec<usize>,
    /// Its shape.
    pub(in super::super) shape: Vec<usize>,
}

/// Whether the pickle is such metadata at all.
pub(in super::super) fn is_metadata(pickle: &Pickle<'_>) -> bool {
    pickle.object(pickle.root()).and_then(|root| pickle.as_global(root.callable)) == Some(METADATA)
}

/// Lists the tensors under `key`, or under the only key that holds any.
pub(in super::super) fn parse(pickle: &Pickle<'_>, key: Option<&str>) -> Result<Vec<Entry>, TorchError> {
    let listed = named(pickle, "state_dict_metadata");
    let is_tensor = |value| field(pickle, value, "chunks").is_some();
    // Python keeps the last value of a repeated key.
    let mut last: HashMap<&str, usize> = HashMap::new();
    last.extend(listed.iter().enumerate().map(|(at, &(name, _))| (name, at)));
    let tensors = listed.iter().enumerate().filter(|&(at, &(name, _))| last.get(name) == Some(&at));
    let tensors: Vec<(&str, Value)> = tensors.map(|(_, &entry)| entry).filter(|&(_, value)| is_tensor(value)).collect();
    let groups = Groups::of(pickle);
    let chosen = groups.choose(tensors.iter().map(|&(name, _)| name), key)?;
    let mut reader = Reader { pickle, stored: stored(pickle), pieces: 0 };
    let below = tensors.iter().filter_map(|&(name, value)| Some((name, chosen.below(&groups, name)?, value)));
    below.map(|(full, name, value)| reader.entry(full, name, value)).collect()
}

/// A field of a dataclass: `BUILD` gave it its dict.
fn field(pickle: &Pickle<'_>, object: Value, name: &str) -> Option<Value> {
    let Some(Node::Dict(pairs)) = pickle.deref(pickle.object(object)?.state?) else { return None };
    let last = pairs.iter().take(MAX_FIELDS).rev().find(|&&(key, _)| pickle.as_text(key) == Some(name));
    last.map(|&(_, value)| value)
}

/// The pairs of a dict that the root holds under `name`, those without a textual key left out.
fn named<'p>(pickle: &Pickle<'p>, name: &str) -> Vec<(&'p str, Value)> {
    let pairs = field(pickle, pickle.root(), name).and_then(|dict| entries(pickle, dict)).unwrap_or_default();
    pairs.into_iter().filter_map(|(key, value)| Some((pickle.as_text(key)?, value))).collect()
}

/// The numbers of a `torch.Size` or tuple.
fn numbers(pickle: &Pickle<'_>, value: Value) -> Option<Vec<u64>> {
    let values = sizes(pickle, value).filter(|values| values.len() <= MAX_DIMENSIONS)?;
    values.iter().map(|&value| count(value)).collect()
}

fn count(value: Value) -> Option<u64> {
    Pickle::as_int(value).and_then(|number| u64::try_from(number).ok())
}

/// Where tensors lay in the nested dict that was saved. Names are joined by dots there, and the planner's notes tell
/// where one component ends.
struct Groups<'p> {
    /// The last component of each name, as far as it is known.
    last: HashMap<&'p str, Cow<'p, str>>,
}

/// The part that is read.
enum Chosen {
    /// Everything whose name starts so, the dot included; all when empty.
    Prefix(String),
    /// Exactly the dict of this name.
    Group(String),
}

impl<'p> Groups<'p> {
    fn of(pickle: &Pickle<'p>) -> Self {
        let last = |path| match *pickle.as_sequence(path)?.last()? {
            Value::Int(number) => Some(Cow::Owned(number.to_string())),
            value => pickle.as_text(value).map(Cow::Borrowed),
        };
        let paths = named(pickle, "planner_data").into_iter();
        Self { last: paths.filter_map(|(name, path)| Some((name, last(path)?))).collect() }
    }

    /// The key of the dict that holds the tensor itself; empty for the top level.
    fn of_name<'n>(&self, name: &'n str) -> &'n str {
        let last = self.last.get(name);
        last.and_then(|last| name.strip_suffix(last.as_ref())?.strip_suffix('.')).unwrap_or_default()
    }

    fn choose<'n>(&self, names: impl Iterator<Item = &'n str>, key: Option<&str>) -> Result<Chosen, TorchError> {
        let mut seen = HashSet::new();
        let mut groups: Vec<&str> = names.map(|name| self.of_name(name)).filter(|group| seen.insert(*group)).collect();
        if let Some(key) = key {
            let prefix = if key.is_empty() { String::new() } else { format!("{key}.") };
            let under = |group: &&str| *group == key || group.starts_with(&prefix);
            return match groups.iter().any(under) {
                true => Ok(Chosen::Prefix(prefix)),
                false => Err(TorchError::NoSuchKey { key: printable(key), available: list(&groups) }),
            };
        }
        // Optimizers hold tensors of the same shapes.
        let only_an_optimizer = !groups.is_empty();
        groups.retain(|group| !group.split('.').any(|part| part.starts_with("optim")));
        match groups.as_slice() {
            [] => {
                let what = if only_an_optimizer { "of nothing but an optimizer" } else { "without tensors" };
                Err(TorchError::NoTensors { root: format!("a distributed checkpoint {what}") })
            }
            [only] => Ok(Chosen::Group((*only).to_owned())),
            several => Err(TorchError::Ambiguous { candidates: list(several) }),
        }
    }
}

impl Chosen {
    /// What is left of a name below the chosen part, if it lies there.
    fn below<'n>(&self, groups: &Groups<'_>, name: &'n str) -> Option<&'n str> {
        match self {
            Self::Prefix(prefix) => name.strip_prefix(prefix.as_str()),
            Self::Group(group) if groups.of_name(name) != group => None,
            Self::Group(group) if group.is_empty() => Some(name),
            Self::Group(group) => name.strip_prefix(group.as_str())?.strip_prefix('.'),
        }
    }
}

fn list(groups: &[&str]) -> String {
    let shown = |group: &&str| if group.is_empty() { "the top level \"\"".to_owned() } else { printable(group) };
    let mut names: Vec<String> = groups.iter().take(SHOWN_KEYS).map(shown).collect();
    if groups.len() > SHOWN_KEYS {
        names.push("…".to_owned());
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Tensor and first element of a piece: how the metadata name its place.
type Index<'p> = (&'p str, Vec<u64>);

/// `storage_data`: the description of the place of every piece.
fn stored<'p>(pickle: &Pickle<'p>) -> HashMap<Index<'p>, Value> {
    let all = field(pickle, pickle.root(), "storage_data").and_then(|dict| entries(pickle, dict));
    let index = |index| {
        let name = pickle.as_text(field(pickle, index, "fqn")?)?;
        Some((name, numbers(pickle, field(pickle, index, "offset")?)?))
    };
    all.unwrap_or_default().into_iter().filter_map(|(key, place)| Some((index(key)?, place))).collect()
}

struct Reader<'r, 'p> {
    pickle: &'r Pickle<'p>,
    /// Places that no tensor has taken yet: each belongs to one piece.
    stored: HashMap<Index<'p>, Value>,
    /// Pieces seen so far, those without elements too.
    pieces: usize,
}

impl<'p> Reader<'_, 'p> {
    fn entry(&mut self, full: &'p str, name: &str, value: Value) -> Result<Entry, TorchError> {
        let malformed = |problem| TorchError::Malformed { tensor: printable(full), problem };
        let shape = self.numbers(value, "size").ok_or(malformed("its shape is no tuple of sizes"))?;
        let chunks = field(self.pickle, value, "chunks").and_then(|chunks| self.pickle.as_sequence(chunks));
        let mut pieces = Vec::new();
        for &chunk in chunks.ok_or(malformed("its pieces are no list"))? {
            self.pieces += 1;
            if self.pieces > MAX_PIECES {
                return Err(TorchError::TooMany { limit: MAX_PIECES, what: "pieces of tensors" });
            }
            let at = self.numbers(chunk, "offsets").ok_or(malformed("a piece of it lies nowhere"))?;
            let piece = self.numbers(chunk, "sizes").ok_or(malformed("a piece of it has no shape"))?;
            if at.len() != shape.len() || piece.len() != shape.len() {
                return Err(malformed("it and its pieces differ in dimensions"));
            }
            if !piece.contains(&0) {
                pieces.push(self.piece(full, at, piece)?);
            }
        }
        let shape = narrow(shape).ok_or(malformed("its shape does not fit any memory"))?;
        Ok(Entry { name: name.to_owned(), shape, dtype: self.dtype(value), pieces })
    }

    fn piece(&mut self, full: &'p str, at: Vec<u64>, shape: Vec<u64>) -> Result<Piece, TorchError> {
        let malformed = |problem| TorchError::Malformed { tensor: printable(full), problem };
        let key = (full, at);
        let place = self.stored.remove(&key).ok_or(malformed("a piece of it is in no file, or used twice"))?;
        let of_place = |name| field(self.pickle, place, name);
        let file = of_place("relative_path").and_then(|file| self.pickle.as_text(file));
        let file = file.filter(|file| file.len() <= MAX_FILE_NAME);
        let file = file.ok_or(malformed("the file of a piece of it has no name, or too long a one"))?.to_owned();
        let plain = |value| value == Value::None || self.pickle.as_sequence(value).is_some_and(<[_]>::is_empty);
        if !of_place("transform_descriptors").is_none_or(plain) {
            return Err(malformed("its pieces are compressed or otherwise transformed"));
        }
        let bound = |name| of_place(name).and_then(count);
        let range = bound("offset").zip(bound("length")).and_then(|(start, len)| Some(start..start.checked_add(len)?));
        let range = range.ok_or(malformed("the place of a piece of it is no range of bytes"))?;
        let (at, shape) = narrow(key.1).zip(narrow(shape)).ok_or(malformed("its shape does not fit any memory"))?;
        Ok(Piece { file, range, at, shape })
    }

    /// A `torch.Size` among the fields of an object.
    fn numbers(&self, object: Value, name: &str) -> Option<Vec<u64>> {
        numbers(self.pickle, field(self.pickle, object, name)?)
    }

    /// `properties` pickle as a tuple that opens with the dtype.
    fn dtype(&self, tensor: Value) -> Option<Dtype> {
        let properties = self.pickle.object(field(self.pickle, tensor, "properties")?)?.state?;
        let (module, name) = self.pickle.as_global(*self.pickle.as_sequence(properties)?.first()?)?;
        globals::torch_dtype(module, name)
    }
}

fn narrow(numbers: Vec<u64>) -> Option<Vec<usize>> {
    numbers.into_iter().map(|number| usize::try_from(number).ok()).collect()
}
