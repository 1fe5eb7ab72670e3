//! Tensors and storages as a torch pickle describes them, checked before anybody computes with the numbers. No I/O.

use std::collections::HashMap;

use super::super::pickle::{Node, NodeId, Object, Pickle, Value};
use super::TorchError;
use super::globals::{self, Rebuild, StorageClass, printable};
use crate::tensor::Dtype;

/// Most dimensions a torch tensor can have.
pub(super) const MAX_DIMENSIONS: usize = 64;
/// Deepest chain of wrappers (parameter of a subclass of a parameter …) around one tensor.
const MAX_WRAPPERS: usize = 16;

/// Where the elements of one tensor lie: all numbers count elements of `dtype` and were checked against the storage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct TensorLayout {
    pub(in super::super) dtype: Dtype,
    pub(in super::super) shape: Vec<usize>,
    pub(in super::super) strides: Vec<usize>,
    pub(in super::super) offset: usize,
    /// Index among the storages of the pickle.
    pub(in super::super) storage: usize,
}

/// One storage that the pickle refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct StorageRef {
    /// Its name in the container.
    pub(in super::super) key: String,
    /// Bytes that the pickle says it has.
    pub(in super::super) bytes: u64,
    /// Bytes of one element: the unit of the legacy container's counts.
    pub(in super::super) element_bytes: u64,
}

/// The storages of one pickle, in order of first appearance.
#[derive(Debug, Default)]
pub(in super::super) struct Storages {
    list: Vec<StorageRef>,
    by_key: HashMap<String, usize>,
    by_node: HashMap<NodeId, (usize, StorageClass, u64, u64)>,
}

impl Storages {
    /// Every storage that the pickle names, whether a tensor of the state dict uses it or not.
    pub(in super::super) fn of_pickle(pickle: &Pickle<'_>) -> Result<Self, TorchError> {
        let mut storages = Self::default();
        for (id, node) in pickle.nodes() {
            let Node::Persistent(pid) = node else { continue };
            let tag = pickle.as_sequence(*pid).and_then(|parts| parts.first().copied());
            // Legacy files also name the source text of module classes so.
            if tag.and_then(|tag| pickle.as_text(tag)) != Some("module") {
                let mut reader = Reader { pickle, storages: &mut storages, name: "" };
                reader.storage(Value::Node(id))?;
            }
        }
        Ok(storages)
    }

    pub(in super::super) fn into_list(self) -> Vec<StorageRef> {
        self.list
    }
}

/// What came of reading a tensor's description.
#[derive(Debug)]
pub(super) enum Reading {
    /// All well.
    Tensor(TensorLayout),
    /// A tensor of a kind that is not read.
    Unreadable(String),
}

/// The elements of a tuple, or of `torch.Size((2, 3))`, which is a call with one tuple.
pub(super) fn sizes<'r>(pickle: &'r Pickle<'_>, value: Value) -> Option<&'r [Value]> {
    match pickle.object(value) {
        Some(object) if pickle.as_global(object.callable) == Some(("torch", "Size")) => {
            pickle.as_sequence(object.args)?.first().and_then(|&first| pickle.as_sequence(first))
        }
        _ => pickle.as_sequence(value),
    }
}

/// Whether a value is a tensor of any kind, readable or not.
pub(super) fn is_tensor(pickle: &Pickle<'_>, value: Value) -> bool {
    pickle.object(value).is_some_and(|object| kind(pickle, object).is_some())
}

fn kind(pickle: &Pickle<'_>, object: &Object) -> Option<Rebuild> {
    let (module, name) = pickle.as_global(object.callable)?;
    globals::rebuild(module, name)
}

/// Reads the tensor that `value` describes; `None` when it is something else.
pub(super) fn read(
    pickle: &Pickle<'_>,
    value: Value,
    storages: &mut Storages,
    name: &str,
) -> Option<Result<Reading, TorchError>> {
    let reader = Reader { pickle, storages, name };
    is_tensor(pickle, value).then(|| reader.read(value))
}

struct Reader<'r, 'p> {
    pickle: &'r Pickle<'p>,
    storages: &'r mut Storages,
    /// The tensor's name, for errors.
    name: &'r str,
}

impl Reader<'_, '_> {
    fn read(mut self, mut value: Value) -> Result<Reading, TorchError> {
        for _ in 0..MAX_WRAPPERS {
            let object = self.pickle.object(value).ok_or_else(|| self.malformed("a wrapper holds no tensor"))?;
            let kind = kind(self.pickle, object).ok_or_else(|| self.malformed("a wrapper holds no tensor"))?;
            let args = self.pickle.as_sequence(object.args).unwrap_or_default();
            let (kind, args) = match kind {
                Rebuild::FromType => match *args {
                    [function, _, inner, ..] => {
                        let global = self.pickle.as_global(function);
                        let kind = global.and_then(|(module, name)| globals::rebuild(module, name));
                        let kind = kind.ok_or_else(|| self.malformed("it is rebuilt by an unknown function"))?;
                        (kind, self.pickle.as_sequence(inner).unwrap_or_default())
                    }
                    _ => return Err(self.malformed("its subclass is described by too few arguments")),
                },
                kind => (kind, args),
            };
            match kind {
                Rebuild::Unwrap => {
                    value = *args.first().ok_or_else(|| self.malformed("a parameter without data"))?;
                }
                Rebuild::Unreadable(what) => return Ok(Reading::Unreadable(what.to_owned())),
                Rebuild::Tensor => return self.tensor(args),
                Rebuild::TensorV3 => return self.tensor_v3(args),
                Rebuild::OldTensor(dtype) => return self.old_tensor(object, dtype),
                Rebuild::FromType => return Err(self.malformed("a subclass of a subclass")),
            }
        }
        Err(self.malformed("too many wrappers around it"))
    }

    fn malformed(&self, problem: &'static str) -> TorchError {
        TorchError::Malformed { tensor: printable(self.name), problem }
    }

    /// `_rebuild_tensor(storage, offset, size, stride)` and `_v2(…, requires_grad, hooks[, metadata])`.
    fn tensor(&mut self, args: &[Value]) -> Result<Reading, TorchError> {
        let [storage, offset, size, stride, rest @ ..] = args else {
            return Err(self.malformed("too few arguments"));
        };
        if let Some(what) = rest.get(2).and_then(|&metadata| self.math_bits(metadata)) {
            return Ok(Reading::Unreadable(what.to_owned()));
        }
        let (index, class, held, base) = self.storage(*storage)?;
        let dtype = match class {
            StorageClass::Typed(dtype) => dtype,
            StorageClass::Quantised(_) => return Ok(Reading::Unreadable("a tensor of quantised integers".to_owned())),
            StorageClass::Untyped => return Err(self.malformed("its storage has no dtype")),
        };
        self.layout(dtype, (index, held, base), [*offset, *size, *stride])
    }

    /// `_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])`.
    fn tensor_v3(&mut self, args: &[Value]) -> Result<Reading, TorchError> {
        let [storage, offset, size, stride, _, _, dtype, rest @ ..] = args else {
            return Err(self.malformed("too few arguments"));
        };
        if let Some(what) = rest.first().and_then(|&metadata| self.math_bits(metadata)) {
            return Ok(Reading::Unreadable(what.to_owned()));
        }
        let Some((module, name)) = self.pickle.as_global(*dtype) else {
            return Err(self.malformed("its dtype is no name"));
        };
        let Some(dtype) = globals::torch_dtype(module, name) else {
            return Ok(Reading::Unreadable(format!("a tensor of {}", printable(&format!("{module}.{name}")))));
        };
        let (index, class, held, base) = self.storage(*storage)?;
        let held = held.saturating_mul(class.element_bytes()) / dtype.size() as u64;
        if base != 0 || matches!(class, StorageClass::Quantised(_)) {
            return Err(self.malformed("its storage does not fit its dtype"));
        }
        self.layout(dtype, (index, held, 0), [*offset, *size, *stride])
    }

    /// `torch.FloatTensor()` then BUILD `(storage, offset, size, stride)`; without BUILD it is empty.
    fn old_tensor(&mut self, object: &Object, dtype: Dtype) -> Result<Reading, TorchError> {
        let state = object.state.and_then(|state| self.pickle.as_sequence(state));
        let Some(&[storage, offset, size, stride]) = state else {
            return Err(self.malformed("an old tensor without its four-part state"));
        };
        if storage == Value::None {
            return Ok(Reading::Unreadable("a tensor without a storage".to_owned()));
        }
        let (index, class, held, base) = self.storage(storage)?;
        if class != StorageClass::Typed(dtype) {
            return Err(self.malformed("its storage is of another dtype"));
        }
        self.layout(dtype, (index, held, base), [offset, size, stride])
    }

    /// The bits of metadata that make the values differ from the bytes.
    fn math_bits(&self, metadata: Value) -> Option<&'static str> {
        let entries = super::state_dict::entries(self.pickle, metadata)?;
        let set = |name| {
            entries.iter().any(|&(key, value)| self.pickle.as_text(key) == Some(name) && value == Value::Bool(true))
        };
        match () {
            () if set("conj") => Some("a lazily conjugated tensor"),
            () if set("neg") => Some("a lazily negated tensor"),
            () => None,
        }
    }

    /// Index, class, elements and first element (of a legacy view) of a storage.
    fn storage(&mut self, value: Value) -> Result<(usize, StorageClass, u64, u64), TorchError> {
        let (Value::Node(id), Some(Node::Persistent(pid))) = (value, self.pickle.deref(value)) else {
            return Err(self.malformed("its storage is no storage"));
        };
        if let Some(&known) = self.storages.by_node.get(&id) {
            return Ok(known);
        }
        let parts = self.pickle.as_sequence(*pid).unwrap_or_default();
        let (&[tag, class, key, _, numel], view) =
            parts
                .split_first_chunk::<5>()
                .filter(|(_, view)| view.len() <= 1)
                .ok_or_else(|| self.malformed("its storage has a malformed persistent id"))?;
        if self.pickle.as_text(tag) != Some("storage") {
            return Err(self.malformed("its storage has a malformed persistent id"));
        }
        let global = self.pickle.as_global(class);
        let class = global.and_then(|(module, name)| globals::storage_class(module, name));
        let class = class.ok_or_else(|| self.malformed("its storage is of an unknown class"))?;
        let key = match key {
            Value::Int(key) => key.to_string(),
            key => self.pickle.as_text(key).ok_or_else(|| self.malformed("its storage has no key"))?.to_owned(),
        };
        let numel = self.count(numel, "the length of its storage is negative or no integer")?;
        let (base, held) = self.view(view.first().copied(), numel)?;
        let bytes = numel.checked_mul(class.element_bytes());
        let bytes = bytes.ok_or_else(|| self.malformed("its storage is larger than any memory"))?;
        let storage = StorageRef { key: key.clone(), bytes, element_bytes: class.element_bytes() };
        let index = match self.storages.by_key.get(&key) {
            Some(&index) if self.storages.list.get(index) == Some(&storage) => index,
            Some(_) => return Err(TorchError::StorageConflict { storage: printable(&key) }),
            None => {
                self.storages.list.push(storage);
                self.storages.by_key.insert(key, self.storages.list.len() - 1);
                self.storages.list.len() - 1
            }
        };
        let known = (index, class, held, base);
        self.storages.by_node.insert(id, known);
        Ok(known)
    }

    /// A legacy view of a storage: `(key, offset, size)` in elements. First element and number of elements.
    fn view(&self, view: Option<Value>, numel: u64) -> Result<(u64, u64), TorchError> {
        let Some(view) = view.filter(|&view| view != Value::None) else { return Ok((0, numel)) };
        let parts = self.pickle.as_sequence(view);
        let Some(&[_, offset, size]) = parts else {
            return Err(self.malformed("its storage view is malformed"));
        };
        let problem = "its storage view is negative or no integer";
        let (offset, size) = (self.count(offset, problem)?, self.count(size, problem)?);
        if offset.checked_add(size).is_none_or(|end| end > numel) {
            return Err(self.malformed("its storage view runs past the storage"));
        }
        Ok((offset, size))
    }

    /// A number that cannot be negative; `problem` is what to say when it is, or is no integer.
    fn count(&self, value: Value, problem: &'static str) -> Result<u64, TorchError> {
        let count = Pickle::as_int(value).and_then(|count| u64::try_from(count).ok());
        count.ok_or_else(|| self.malformed(problem))
    }

    fn counts(&self, value: Value, problem: &'static str) -> Result<Vec<u64>, TorchError> {
        let values = sizes(self.pickle, value);
        let values = values.ok_or_else(|| self.malformed("its shape or strides are no tuple"))?;
        if values.len() > MAX_DIMENSIONS {
            return Err(self.malformed("it has more than 64 dimensions"));
        }
        values.iter().map(|&value| self.count(value, problem)).collect()
    }

    /// Checks `[offset, size, stride]` against `held` elements that start at element `base` of storage `index`.
    fn layout(
        &self,
        dtype: Dtype,
        (index, held, base): (usize, u64, u64),
        [offset, size, stride]: [Value; 3],
    ) -> Result<Reading, TorchError> {
        let offset = self.count(offset, "its offset is negative or no integer")?;
        let shape = self.counts(size, "a size of it is negative or no integer")?;
        let strides = self.counts(stride, "a stride of it is negative or no integer")?;
        if shape.len() != strides.len() {
            return Err(self.malformed("its shape and strides differ in length"));
        }
        let overflow = || self.malformed("its shape does not fit any memory");
        let elements = if shape.contains(&0) {
            0
        } else {
            shape.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent)).ok_or_else(overflow)?
        };
        elements.checked_mul(dtype.size() as u64).filter(|&bytes| bytes < 1 << 63).ok_or_else(overflow)?;
        if elements > 0 {
            let last = shape.iter().zip(&strides).filter(|&(&extent, _)| extent > 1);
            let mut last = last.map(|(&extent, &stride)| (extent - 1).checked_mul(stride));
            let needed = last.try_fold(offset + 1, |at, step| at.checked_add(step?));
            let needed = needed.ok_or_else(|| self.malformed("its strides reach beyond any memory"))?;
            if needed > held {
                let storage = self.storages.list.get(index).map(|storage| printable(&storage.key));
                let storage = storage.unwrap_or_default();
                return Err(TorchError::OutOfBounds { tensor: printable(self.name), storage, needed, held });
            }
        }
        let narrow = |numbers: Vec<u64>| -> Option<Vec<usize>> {
            numbers.into_iter().map(|number| usize::try_from(number).ok()).collect()
        };
        let shape = narrow(shape).ok_or_else(overflow)?;
        let strides = narrow(strides).ok_or_else(overflow)?;
        let offset = base.checked_add(offset).and_then(|offset| usize::try_from(offset).ok()).ok_or_else(overflow)?;
        Ok(Reading::Tensor(TensorLayout { dtype, shape, strides, offset, storage: index }))
    }
}
