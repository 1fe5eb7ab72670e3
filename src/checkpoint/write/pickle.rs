//! The pickle of a state dict, protocol 2, as torch writes it: an `OrderedDict` of `_rebuild_tensor_v2` calls. Pure.

use std::collections::HashMap;

use super::NamedTensor;
use crate::tensor::Dtype;

/// Items per SETITEMS, as Python's pickler batches them.
const BATCH: usize = 1000;

/// The pickle of these tensors; `storage_keys` names each tensor's storage.
pub(super) fn state_dict(tensors: &[NamedTensor<'_>], storage_keys: &[usize]) -> Vec<u8> {
    let mut writer = Writer { out: vec![0x80, 2], memo: HashMap::new() };
    writer.ordered_dict();
    for batch in tensors.iter().zip(storage_keys).collect::<Vec<_>>().chunks(BATCH) {
        writer.out.push(b'(');
        for (tensor, key) in batch {
            writer.text(tensor.name);
            writer.tensor(tensor, **key);
        }
        writer.out.push(b'u');
    }
    writer.out.push(b'.');
    writer.out
}

/// The global of the storage class, when torch has one for the dtype; the others have untyped storages.
fn storage_class(dtype: Dtype) -> Option<&'static str> {
    Some(match dtype {
        Dtype::F64 => "DoubleStorage",
        Dtype::F32 => "FloatStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::Bf16 => "BFloat16Storage",
        Dtype::I64 => "LongStorage",
        Dtype::I32 => "IntStorage",
        Dtype::I16 => "ShortStorage",
        Dtype::I8 => "CharStorage",
        Dtype::U8 => "ByteStorage",
        Dtype::Bool => "BoolStorage",
        Dtype::C64 => "ComplexFloatStorage",
        Dtype::C128 => "ComplexDoubleStorage",
        _ => return None,
    })
}

fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F64 => "float64",
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        Dtype::F8E4m3 => "float8_e4m3fn",
        Dtype::F8E5m2 => "float8_e5m2",
        Dtype::F8E4m3Fnuz => "float8_e4m3fnuz",
        Dtype::F8E5m2Fnuz => "float8_e5m2fnuz",
        Dtype::F8E8m0 => "float8_e8m0fnu",
        Dtype::I64 => "int64",
        Dtype::I32 => "int32",
        Dtype::I16 => "int16",
        Dtype::I8 => "int8",
        Dtype::U64 => "uint64",
        Dtype::U32 => "uint32",
        Dtype::U16 => "uint16",
        Dtype::U8 => "uint8",
        Dtype::Bool => "bool",
        Dtype::C32 => "complex32",
        Dtype::C64 => "complex64",
        Dtype::C128 => "complex128",
    }
}

struct Writer {
    out: Vec<u8>,
    /// Globals and fixed texts that were written already.
    memo: HashMap<(&'static str, &'static str), u8>,
}

impl Writer {
    fn tensor(&mut self, tensor: &NamedTensor<'_>, key: usize) {
        let (dtype, shape) = (tensor.source.dtype(), tensor.source.shape());
        let class = storage_class(dtype);
        let elements = crate::tensor::element_count(shape).unwrap_or(0);
        self.global("torch._utils", if class.is_some() { "_rebuild_tensor_v2" } else { "_rebuild_tensor_v3" });
        self.out.extend(b"((");
        self.fixed_text("storage");
        match class {
            Some(class) => self.global("torch", class),
            None => self.global("torch.storage", "UntypedStorage"),
        }
        self.text(&key.to_string());
        self.fixed_text("cpu");
        self.int(if class.is_some() { elements } else { elements.saturating_mul(dtype.size()) });
        self.out.extend(b"tQ");
        self.int(0);
        self.ints(shape);
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = usize::saturating_mul(strides[axis], shape[axis].max(1));
        }
        self.ints(&strides);
        self.out.push(0x89);
        self.ordered_dict();
        if class.is_none() {
            self.global("torch", dtype_name(dtype));
        }
        self.out.extend(b"tR");
    }

    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.out.extend(b")R");
    }

    fn global(&mut self, module: &'static str, name: &'static str) {
        self.once((module, name), |out| {
            out.push(b'c');
            for line in [module, name] {
                out.extend(line.as_bytes());
                out.push(b'\n');
            }
        });
    }

    fn fixed_text(&mut self, text: &'static str) {
        self.once(("", text), |out| {
            out.push(b'X');
            out.extend((text.len() as u32).to_le_bytes());
            out.extend(text.as_bytes());
        });
    }

    /// Writes something and memoises it, or recalls it. There are fewer than 256 such things.
    fn once(&mut self, what: (&'static str, &'static str), write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(&id) = self.memo.get(&what) {
            self.out.extend([b'h', id]);
            return;
        }
        write(&mut self.out);
        let id = self.memo.len() as u8;
        self.out.extend([b'q', id]);
        self.memo.insert(what, id);
    }

    fn text(&mut self, text: &str) {
        self.out.push(b'X');
        self.out.extend((text.len() as u32).to_le_bytes());
        self.out.extend(text.as_bytes());
    }

    fn ints(&mut self, ints: &[usize]) {
        self.out.push(b'(');
        for &int in ints {
            self.int(int);
        }
        self.out.push(b't');
    }

    fn int(&mut self, int: usize) {
        if let Ok(small) = u8::try_from(int) {
            self.out.extend([b'K', small]);
        } else if let Ok(medium) = i32::try_from(int) {
            self.out.push(b'J');
            self.out.extend(medium.to_le_bytes());
        } else {
            // LONG1 of nine bytes: the ninth keeps the number positive.
            self.out.extend([0x8a, 9]);
            self.out.extend((int as u64).to_le_bytes());
            self.out.push(0);
        }
    }
}
