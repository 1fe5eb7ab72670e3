//! However a file is made, opening it and reading a tensor takes at most its length and 64 MiB. An allocator that counts
//! is the witness; mapped files are not counted, what is copied out of them is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use wandb_pca::checkpoint::{Checkpoint, CheckpointError, NamedTensor, OpenOptions, write_torch};
use wandb_pca::tensor::{Dtype, TensorView};

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// One test at a time: what the others hold would count.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Counting;

fn grow(bytes: usize) {
    PEAK.fetch_max(NOW.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
}

// SAFETY: every call is handed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match size.checked_sub(layout.size()) {
            Some(more) => grow(more),
            None => drop(NOW.fetch_sub(layout.size() - size, Ordering::Relaxed)),
        }
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that `work` held at a time.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let made = work();
    (made, PEAK.load(Ordering::Relaxed) - before)
}

const MIB: usize = 1 << 20;

/// Opens the file and reads every tensor, one after the other.
fn read_all(path: &Path, options: &OpenOptions) -> Result<usize, CheckpointError> {
    let checkpoint = Checkpoint::open(path, options)?;
    let mut bytes = 0;
    for info in checkpoint.tensors() {
        bytes += checkpoint.tensor(&info.name)?.len();
    }
    Ok(bytes)
}

fn check(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.index.json");
    std::fs::write(&path, bytes).unwrap();
    let (read, peak) = peak(|| read_all(&path, &OpenOptions::default()));
    let told = match &read {
        Ok(elements) => format!("{elements} elements"),
        Err(error) => format!("{error:?}").chars().take(200).collect(),
    };
    let bound = bytes.len() + 64 * MIB;
    assert!(peak <= bound, "{name}: {} KiB for a file of {} KiB: {told}", peak >> 10, bytes.len() >> 10);
}

/// A torch archive by the `zip` crate.
fn archive(records: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in records {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn torch(value: &[u8], method: zip::CompressionMethod) -> Vec<u8> {
    let pickle = [b"\x80\x02", value, b"."].concat();
    archive(&[("a/data.pkl", &pickle), ("a/data/0", &[0; 16])], method)
}

/// Pushes four floats and keeps them in memo entry 0.
const TENSOR: &[u8] =
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu\
    K\x04tQK\x00(K\x02K\x02t(K\x02K\x01t\x89}tRq\x000";

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A dict of one tensor under many names.
fn many_names(count: usize) -> Vec<u8> {
    let items: Vec<u8> = (0..count).flat_map(|at| [&text(&format!("{at:x}"))[..], b"h\x00s"].concat()).collect();
    [TENSOR, b"}", &items].concat()
}

/// A module of two modules, which are the same one, of two modules …: 2^25 parameters.
fn doubled_modules() -> Vec<u8> {
    let leaf =
        [&b"cx\nM\n)\x81}("[..], &text("_parameters"), b"}", &text("w"), b"h\x00s", &text("_modules"), b"}ubq\x010"];
    let level = [&b"cx\nM\n)\x81}("[..], &text("_parameters"), b"}", &text("_modules"), b"}(", &text("a"), b"h\x01"];
    let level = [&level.concat()[..], &text("b"), b"h\x01uubq\x010"].concat();
    [TENSOR, &leaf.concat(), &level.repeat(25), b"h\x01"].concat()
}

#[test]
fn no_pickle_takes_more_than_its_file_and_64_mib() {
    let _turn = turn();
    use zip::CompressionMethod::{Deflated, Stored};
    let memo: Vec<u8> = (0..600_000u32).flat_map(|id| [b"r", &id.to_le_bytes()[..]].concat()).collect();
    let pickles: Vec<(&str, Vec<u8>)> = vec![
        ("tuples", b")0".repeat(MIB)),
        ("lists on the stack", b"]".repeat(MIB / 2)),
        ("marks", b"(".repeat(MIB / 2)),
        ("objects", [b"ca\nb\nq\x000", &b"h\x00)R0".repeat(MIB / 2)[..]].concat()),
        ("one long list", [b"](", &b"N".repeat(200_000)[..], b"e"].concat().repeat(20)),
        ("memo", [b"N", &memo[..]].concat()),
        ("many names", many_names(120_000)),
        ("long names", [TENSOR, b"}", &[&text(&"n".repeat(MIB))[..], b"h\x00s"].concat().repeat(30)].concat()),
        ("doubled modules", doubled_modules()),
    ];
    for (name, pickle) in pickles {
        check(name, &torch(&pickle, Stored));
        check(&format!("{name}, deflated"), &torch(&pickle, Deflated));
    }
}

#[test]
fn no_header_index_or_record_takes_more_than_its_file_and_64_mib() {
    let _turn = turn();
    let safetensors = |header: String| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    let empty = "{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}";
    let tensors: Vec<String> = (0..120_000).map(|at| format!("\"{at:x}\":{empty}")).collect();
    check("empty tensors", &safetensors(format!("{{{}}}", tensors.join(","))));
    let dimensions = vec!["1"; 3 * MIB].join(",");
    let header = format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":[{dimensions}],\"data_offsets\":[0,4]}}}}");
    check("dimensions", &safetensors(header));
    let notes: Vec<String> = (0..MIB).map(|at| format!("\"{at:x}\":\"\"")).collect();
    check("notes", &safetensors(format!("{{\"__metadata__\":{{{}}}}}", notes.join(","))));
    let map: Vec<String> = (0..400_000).map(|at| format!("\"{at:x}\":\"a\"")).collect();
    check("index", format!("{{\"weight_map\":{{{}}}}}", map.join(",")).as_bytes());
    let zeros = vec![0; 60 * MIB];
    let mut tensor = TENSOR.to_vec();
    let count = tensor.windows(2).position(|bytes| bytes == b"K\x04").unwrap();
    tensor.splice(count..count + 2, [&b"J"[..], &(15i32 << 20).to_le_bytes()].concat());
    let pickle = [b"\x80\x02", &tensor[..], b"}", &text("w"), b"h\x00s."].concat();
    let bomb = archive(&[("a/data.pkl", &pickle), ("a/data/0", &zeros)], zip::CompressionMethod::Deflated);
    check("deflated zeros", &bomb);
    check("wrapped zeros", &archive(&[("checkpoint.ckpt", &zeros)], zip::CompressionMethod::Deflated));
}

/// What nn-template deflated: as much as weights deflate.
#[test]
fn a_wrapped_checkpoint_is_inflated_to_disk_when_there_is_a_folder_for_it() {
    let _turn = turn();
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let weights: Vec<u8> = (0..12 * MIB).map(|_| random()).collect();
    let view = TensorView::contiguous(Dtype::F32, vec![3 * MIB], weights).unwrap();
    let mut inner = Cursor::new(Vec::new());
    write_torch(&mut inner, &[NamedTensor::new("w", &view)]).unwrap();
    let outer = archive(&[("checkpoint.ckpt", inner.get_ref())], zip::CompressionMethod::Deflated);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trained.ckpt.zip");
    std::fs::write(&path, outer).unwrap();
    let mut options = OpenOptions::default();
    let (read, in_memory) = peak(|| read_all(&path, &options).unwrap());
    assert!((12 * MIB..14 * MIB).contains(&in_memory), "one copy and little else: {in_memory}");
    options.scratch = Some(folder.path().join("made/when/needed"));
    let (again, on_disk) = peak(|| read_all(&path, &options).unwrap());
    assert_eq!((read, again), (3 * MIB, 3 * MIB));
    assert!(on_disk < 2 * MIB, "{on_disk}");
    assert_eq!(std::fs::read_dir(folder.path().join("made/when/needed")).unwrap().count(), 0, "it has no name");
}
