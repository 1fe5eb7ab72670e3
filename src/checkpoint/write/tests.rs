use std::io::{Cursor, Read};

use super::*;
use crate::checkpoint::{Checkpoint, OpenOptions};
use crate::tensor::ByteOrder;

/// Bytes that look like no other tensor's.
fn pattern(dtype: Dtype, shape: &[usize]) -> TensorView<'static> {
    let bytes = element_count(shape).unwrap() * dtype.size();
    let seed = bytes as u8 ^ dtype.name().len() as u8;
    let bytes: Vec<u8> = (0..bytes).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
    TensorView::contiguous(dtype, shape.to_vec(), bytes).unwrap()
}

fn le_bytes(view: &TensorView<'_>) -> Vec<u8> {
    let mut bytes = vec![0; view.len() * view.dtype().size()];
    view.read_le_bytes(0, &mut bytes).unwrap();
    bytes
}

fn open(bytes: Vec<u8>) -> Checkpoint {
    Checkpoint::from_bytes("written", bytes, &OpenOptions::default()).unwrap()
}

/// Every dtype, and shapes from scalar and empty to more than one block.
fn sources() -> Vec<(String, TensorView<'static>)> {
    let mut sources: Vec<_> =
        Dtype::ALL.into_iter().map(|dtype| (format!("a.{dtype}"), pattern(dtype, &[2, 3]))).collect();
    sources.push(("scalar".to_owned(), pattern(Dtype::F32, &[])));
    sources.push(("empty".to_owned(), pattern(Dtype::F32, &[3, 0, 2])));
    sources.push(("größe \"x\"".to_owned(), pattern(Dtype::Bf16, &[BLOCK_BYTES / 2 + 1])));
    sources
}

#[test]
fn torch_files_hold_what_was_given() {
    let sources = sources();
    let tensors: Vec<_> = sources.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    let mut out = Vec::new();
    write_torch(&mut out, &tensors).unwrap();
    let read = open(out.clone());
    assert_eq!(read.tensors().len(), sources.len());
    for ((name, view), info) in sources.iter().zip(read.tensors()) {
        assert_eq!((name, view.dtype(), view.shape()), (&info.name, info.dtype, &info.shape[..]));
        assert_eq!(le_bytes(&read.tensor(name).unwrap()), le_bytes(view), "{name}");
    }
    // The independent witness: the zip crate, which checks each CRC when it reads to the end.
    let mut archive = ::zip::ZipArchive::new(Cursor::new(out)).unwrap();
    assert_eq!(archive.len(), sources.len() + 6);
    for at in 0..archive.len() {
        let mut record = archive.by_index(at).unwrap();
        assert_eq!(record.data_start().unwrap() % 64, 0, "{}", record.name());
        let size = record.size();
        let mut content = Vec::new();
        record.read_to_end(&mut content).unwrap();
        assert_eq!(content.len() as u64, size);
    }
    assert_eq!(archive.by_name("archive/.data/serialization_id").unwrap().size(), 40);
}

#[test]
fn f32_is_read_in_place() {
    let view = pattern(Dtype::F32, &[5]);
    let mut out = Vec::new();
    write_torch(&mut out, &[NamedTensor::new("w", &view)]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trained.ckpt");
    std::fs::write(&path, out).unwrap();
    let read = Checkpoint::open(&path, &OpenOptions::default()).unwrap();
    assert!(read.tensor("w").unwrap().as_f32().is_some());
}

#[test]
fn tied_tensors_share_a_storage() {
    let (a, b) = (pattern(Dtype::F32, &[2, 3]), pattern(Dtype::F32, &[6]));
    let tied = NamedTensor { tied_to: Some(0), ..NamedTensor::new("b", &b) };
    let tensors = [NamedTensor::new("a", &a), tied];
    let mut out = Vec::new();
    write_torch(&mut out, &tensors).unwrap();
    let read = open(out);
    assert_eq!((read.tensors()[0].storage, read.tensors()[1].storage), (0, 0));
    assert_eq!(le_bytes(&read.tensor("b").unwrap()), le_bytes(&a));
    let wrong = NamedTensor { tied_to: Some(1), ..tensors[1] };
    assert!(matches!(write_torch(&mut Vec::new(), &[tensors[0], wrong]), Err(WriteError::Unsupported { .. })));
}

#[test]
fn safetensors_files_satisfy_the_reference() {
    let mut sources = sources();
    sources.retain(|(_, view)| !matches!(view.dtype(), Dtype::C32 | Dtype::C128));
    let tensors: Vec<_> = sources.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    let mut out = Vec::new();
    write_safetensors(&mut out, &tensors).unwrap();
    let reference = ::safetensors::SafeTensors::deserialize(&out).unwrap();
    let read = open(out.clone());
    assert_eq!(reference.len(), sources.len());
    for (name, view) in &sources {
        assert_eq!(reference.tensor(name).unwrap().data(), le_bytes(view), "{name}");
        assert_eq!(le_bytes(&read.tensor(name).unwrap()), le_bytes(view), "{name}");
    }
    let complex = pattern(Dtype::C128, &[1]);
    let refused = write_safetensors(&mut Vec::new(), &[NamedTensor::new("z", &complex)]);
    assert!(matches!(refused, Err(WriteError::Unsupported { .. })));
}

#[test]
fn strided_and_big_endian_sources_are_straightened() {
    let storage: Vec<u8> = (0..6u16).flat_map(|number| number.to_be_bytes()).collect();
    let view = TensorView::strided(Dtype::I16, vec![3, 2], &[1, 3], 0, storage, ByteOrder::Big).unwrap();
    let mut out = Vec::new();
    write_torch(&mut out, &[NamedTensor::new("w", &view)]).unwrap();
    let expected: Vec<u8> = [0u16, 3, 1, 4, 2, 5].iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(le_bytes(&open(out).tensor("w").unwrap()), expected);
}

struct Failing;

impl TensorSource for Failing {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &[2]
    }
    fn read_le_bytes(&self, _: usize, _: &mut [u8]) -> Result<(), SourceError> {
        Err("no bytes today".into())
    }
}

#[test]
fn errors_name_the_tensor() {
    let error = write_torch(&mut Vec::new(), &[NamedTensor::new("w", &Failing)]).unwrap_err();
    assert!(matches!(error, WriteError::Source { tensor, .. } if tensor == "w"));
    let view = pattern(Dtype::F32, &[1]);
    let twice = [NamedTensor::new("w", &view), NamedTensor::new("w", &view)];
    assert!(matches!(write_safetensors(&mut Vec::new(), &twice), Err(WriteError::DuplicateName { .. })));
}

/// What `write_with` is given of a tensor: its elements one by one as numbers from `start` on.
fn counted(shape: &[usize], start: f32) -> TensorView<'static> {
    let bytes =
        (0..element_count(shape).unwrap()).flat_map(|at| (start + at as f32).to_le_bytes()).collect::<Vec<u8>>();
    TensorView::contiguous(Dtype::F32, shape.to_vec(), bytes).unwrap()
}

fn fixture(name: &str) -> Checkpoint {
    let path = format!("{}/fixtures/checkpoint/torch-2.13/{name}", env!("CARGO_MANIFEST_DIR"));
    Checkpoint::open(path.as_ref(), &OpenOptions::default()).unwrap()
}

fn written_with(checkpoint: &Checkpoint, tensors: &[(&str, TensorView<'_>)]) -> Result<Checkpoint, WriteError> {
    let tensors: Vec<_> = tensors.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    let mut out = Vec::new();
    checkpoint.write_with(&mut out, &tensors)?;
    Ok(open(out))
}

#[test]
fn a_script_keeps_everything_but_the_values_that_are_replaced() {
    let cases = [
        ("scripted.pt", "bn.running_mean"),
        ("state_dict.pt", "conv.weight"),
        ("views.pt", "transposed"),
        ("deflated.pt", "conv.weight"),
    ];
    for (name, tensor) in cases {
        let before = fixture(name);
        let chosen = before.tensors().iter().find(|info| info.name == tensor).unwrap();
        let values = counted(&chosen.shape, 0.5);
        let after = written_with(&before, &[(&chosen.name, values.clone())]).unwrap();
        assert_eq!(after.format(), before.format(), "{name}");
        assert_eq!(after.tensors(), before.tensors(), "{name}");
        assert_eq!(le_bytes(&after.tensor(&chosen.name).unwrap()), le_bytes(&values), "{name}");
        let untouched = before.tensors().iter().filter(|info| info.storage != chosen.storage);
        for info in untouched {
            let of = |checkpoint: &Checkpoint| le_bytes(&checkpoint.tensor(&info.name).unwrap());
            assert_eq!(of(&after), of(&before), "{name}: {}", info.name);
        }
    }
}

#[test]
fn tensors_that_share_elements_get_one_value_or_none() {
    let before = fixture("state_dict.pt");
    let tied = before.tensors().iter().find(|info| info.tied_to.is_some() && info.dtype == Dtype::F32).unwrap();
    let first = &before.tensors()[tied.tied_to.unwrap()];
    let same = [(first.name.as_str(), counted(&first.shape, 1.0)), (tied.name.as_str(), counted(&tied.shape, 1.0))];
    let after = written_with(&before, &same).unwrap();
    assert_eq!(le_bytes(&after.tensor(&tied.name).unwrap()), le_bytes(&same[1].1));
    let differ = [same[0].clone(), (tied.name.as_str(), counted(&tied.shape, 2.0))];
    let error = written_with(&before, &differ).unwrap_err();
    assert!(error.to_string().contains("shares elements"), "{error}");
}

#[test]
fn values_that_do_not_fit_the_archive_are_refused() {
    let script = fixture("scripted.pt");
    let info = script.tensors().iter().find(|info| info.dtype == Dtype::F32).unwrap();
    let name = info.name.as_str();
    let longer: Vec<usize> = info.shape.iter().chain(&[2]).copied().collect();
    let doubles = pattern(Dtype::F64, &info.shape);
    for odd in [("nowhere", counted(&[1], 0.0)), (name, counted(&longer, 0.0)), (name, doubles)] {
        let error = written_with(&script, &[odd]).unwrap_err();
        assert!(matches!(error, WriteError::Unsupported { .. }), "{error}");
    }
    let legacy = fixture("legacy_state_dict.pth");
    let error = written_with(&legacy, &[(name, counted(&info.shape, 0.0))]).unwrap_err();
    assert!(error.to_string().contains("one torch archive"), "{error}");
}
