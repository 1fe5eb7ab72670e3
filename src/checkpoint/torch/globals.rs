//! The globals that mean something to us, by exact module and name, and those that no checkpoint may name. No I/O.

use super::super::pickle::{Node, Pickle};
use super::TorchError;
use crate::tensor::Dtype;

/// Modules that only serve to run something when called from a pickle.
const FORBIDDEN_MODULES: [&str; 27] = [
    "os",
    "posix",
    "nt",
    "pty",
    "sys",
    "subprocess",
    "_posixsubprocess",
    "commands",
    "popen2",
    "shutil",
    "socket",
    "runpy",
    "code",
    "codeop",
    "ctypes",
    "_ctypes",
    "importlib",
    "imp",
    "pkgutil",
    "pdb",
    "bdb",
    "timeit",
    "cProfile",
    "profile",
    "webbrowser",
    "pip",
    "marshal",
];

/// Built-in functions that run or load code.
const FORBIDDEN_BUILTINS: [&str; 8] =
    ["eval", "exec", "execfile", "compile", "__import__", "open", "breakpoint", "input"];

/// Refuses a pickle that names a global which runs commands or code. We would not call it; whoever loads the same file
/// with torch would, so it must not pass silently.
pub(in super::super) fn check_globals(pickle: &Pickle<'_>) -> Result<(), TorchError> {
    for (_, node) in pickle.nodes() {
        let Node::Global { module, name } = node else { continue };
        let (module, name) = (pickle.text(*module), pickle.text(*name));
        let first = module.split('.').next().unwrap_or(module);
        let builtin =
            matches!(module, "builtins" | "__builtin__" | "__builtins__") && FORBIDDEN_BUILTINS.contains(&name);
        if builtin || FORBIDDEN_MODULES.contains(&first) {
            return Err(TorchError::Forbidden { global: printable(&format!("{module}.{name}")) });
        }
    }
    Ok(())
}

/// What a global that makes or wraps a tensor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rebuild {
    /// `(storage, offset, size, stride, …)`, with the metadata of torch 2 as seventh argument.
    Tensor,
    /// The same with an untyped storage and an explicit dtype as seventh argument.
    TensorV3,
    /// The tensor is the first argument.
    Unwrap,
    /// `(function, type, arguments, state)`: a subclass or a tensor with attributes.
    FromType,
    /// A class called without arguments, then given `(storage, offset, size, stride)` by BUILD: torch 0.x.
    OldTensor(Dtype),
    /// A tensor, but of a kind that is not read.
    Unreadable(&'static str),
}

pub(super) fn rebuild(module: &str, name: &str) -> Option<Rebuild> {
    let known = match (module, name) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Rebuild::Tensor,
        ("torch._utils", "_rebuild_tensor_v3") => Rebuild::TensorV3,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
        | ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor")
        | ("torch.nn.parameter" | "torch.nn", "Parameter")
        | ("torch.nn.parameter" | "torch.nn", "Buffer") => Rebuild::Unwrap,
        ("torch._tensor", "_rebuild_from_type_v2" | "_rebuild_from_type") => Rebuild::FromType,
        ("torch._utils", "_rebuild_qtensor") => Rebuild::Unreadable("a quantised tensor"),
        ("torch._utils", "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => {
            Rebuild::Unreadable("a sparse tensor")
        }
        ("torch._utils", "_rebuild_nested_tensor") => Rebuild::Unreadable("a nested tensor"),
        ("torch._utils", "_rebuild_meta_tensor_no_storage") => Rebuild::Unreadable("a meta tensor, which has no data"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy" | "_rebuild_xla_tensor") => {
            Rebuild::Unreadable("a tensor pickled as a numpy array")
        }
        ("torch._utils", "_rebuild_wrapper_subclass") => Rebuild::Unreadable("a tensor subclass without data"),
        ("torch.distributed.tensor" | "torch.distributed._tensor" | "torch.distributed._tensor.api", "DTensor") => {
            Rebuild::Unreadable("one shard of a distributed tensor")
        }
        ("torch.nn.parameter", "UninitializedParameter" | "UninitializedBuffer") => {
            Rebuild::Unreadable("a lazy parameter that was never initialised")
        }
        ("torch" | "torch.cuda", _) => return class_dtype(name.strip_suffix("Tensor")?).map(Rebuild::OldTensor),
        _ => return None,
    };
    Some(known)
}

/// What the elements of a storage class are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StorageClass {
    /// Elements of one dtype.
    Typed(Dtype),
    /// Bytes; the tensor says the dtype.
    Untyped,
    /// Quantised integers of so many bytes: the values need a scale that the storage lacks.
    Quantised(u64),
}

impl StorageClass {
    pub(super) fn element_bytes(self) -> u64 {
        match self {
            Self::Typed(dtype) => dtype.size() as u64,
            Self::Untyped => 1,
            Self::Quantised(bytes) => bytes,
        }
    }
}

/// The storage class of a global; torch itself accepts any module here, we do not.
pub(super) fn storage_class(module: &str, name: &str) -> Option<StorageClass> {
    match (module, name) {
        ("torch.storage" | "torch", "UntypedStorage") | ("torch.storage", "_UntypedStorage") => {
            Some(StorageClass::Untyped)
        }
        ("torch", "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage") => {
            Some(StorageClass::Quantised(1))
        }
        ("torch", "QInt32Storage") => Some(StorageClass::Quantised(4)),
        ("torch" | "torch.cuda", _) => class_dtype(name.strip_suffix("Storage")?).map(StorageClass::Typed),
        _ => None,
    }
}

fn class_dtype(stem: &str) -> Option<Dtype> {
    Some(match stem {
        "Double" => Dtype::F64,
        "Float" => Dtype::F32,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::Bf16,
        "Long" => Dtype::I64,
        "Int" => Dtype::I32,
        "Short" => Dtype::I16,
        "Char" => Dtype::I8,
        "Byte" => Dtype::U8,
        "Bool" => Dtype::Bool,
        "ComplexHalf" => Dtype::C32,
        "ComplexFloat" => Dtype::C64,
        "ComplexDouble" => Dtype::C128,
        _ => return None,
    })
}

/// The dtype of a global such as `torch.float8_e4m3fn`.
pub(super) fn torch_dtype(module: &str, name: &str) -> Option<Dtype> {
    if module != "torch" {
        return None;
    }
    Some(match name {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "float8_e4m3fn" => Dtype::F8E4m3,
        "float8_e5m2" => Dtype::F8E5m2,
        "float8_e4m3fnuz" => Dtype::F8E4m3Fnuz,
        "float8_e5m2fnuz" => Dtype::F8E5m2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8m0,
        "int64" | "long" => Dtype::I64,
        "int32" | "int" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        "complex32" | "chalf" => Dtype::C32,
        "complex64" | "cfloat" => Dtype::C64,
        "complex128" | "cdouble" => Dtype::C128,
        _ => return None,
    })
}

/// Text from a file as it may appear in a message: short, without control characters.
pub(in super::super) fn printable(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut out: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}
