//! A corpus of damaged and hostile files, built here byte by byte: each is refused, with a message of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::error::Error;

use wandb_pca::checkpoint::{Checkpoint, CheckpointError, OpenOptions};

/// The whole chain of an error in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn refusal(bytes: &[u8]) -> String {
    told(Checkpoint::from_bytes("FILE", bytes, &OpenOptions::default()))
}

/// Why it does not open or cannot be read whole.
fn told(opened: Result<Checkpoint, CheckpointError>) -> String {
    let checkpoint = match opened {
        Ok(checkpoint) => checkpoint,
        Err(error) => return chain(&error),
    };
    let read = checkpoint.tensors().iter().map(|info| checkpoint.tensor(&info.name).map(|_| ()));
    match read.collect::<Result<Vec<()>, _>>() {
        Ok(_) => format!("accepted: {:?} {:?}", checkpoint.tensors(), checkpoint.skipped()),
        Err(error) => chain(&error),
    }
}

#[derive(Clone)]
struct Record {
    name: String,
    content: Vec<u8>,
    method: u16,
    flags: u16,
    /// Size before compression, when it is not the content's.
    size: Option<u32>,
    crc: Option<u32>,
    attributes: u32,
    local_name: Option<String>,
    /// Header offset in the directory, when it lies.
    header: Option<u32>,
}

fn record(name: &str, content: &[u8]) -> Record {
    let (name, content) = (name.to_owned(), content.to_vec());
    Record { name, content, method: 0, flags: 0, size: None, crc: None, attributes: 0, local_name: None, header: None }
}

fn zip(records: &[Record]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for record in records {
        let header = record.header.unwrap_or(out.len() as u32);
        let fixed = |name: &str| {
            let mut fixed = 20u16.to_le_bytes().to_vec();
            fixed.extend([record.flags.to_le_bytes(), record.method.to_le_bytes(), [0; 2], [0; 2]].concat());
            fixed.extend(record.crc.unwrap_or_else(|| crc32fast::hash(&record.content)).to_le_bytes());
            fixed.extend((record.content.len() as u32).to_le_bytes());
            fixed.extend(record.size.unwrap_or(record.content.len() as u32).to_le_bytes());
            fixed.extend((name.len() as u16).to_le_bytes());
            fixed.extend([0, 0]);
            fixed
        };
        let local_name = record.local_name.as_ref().unwrap_or(&record.name);
        out.extend([b"PK\x03\x04", &fixed(local_name)[..], local_name.as_bytes(), &record.content].concat());
        directory.extend([b"PK\x01\x02", &0x0314u16.to_le_bytes()[..], &fixed(&record.name), &[0; 6]].concat());
        directory.extend([record.attributes.to_le_bytes(), header.to_le_bytes()].concat());
        directory.extend(record.name.as_bytes());
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(end(records.len() as u16, directory.len() as u32, start));
    out
}

fn end(count: u16, bytes: u32, start: u32) -> Vec<u8> {
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    end.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    end.extend([bytes.to_le_bytes(), start.to_le_bytes()].concat());
    end.extend([0, 0]);
    end
}

/// Pickle pieces.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}
fn int(int: i64) -> Vec<u8> {
    [b"\x8a\x08", &int.to_le_bytes()[..]].concat()
}
fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}
fn ints(items: &[i64]) -> Vec<u8> {
    tuple(&items.iter().map(|&item| int(item)).collect::<Vec<_>>())
}
fn call(global: &str, args: &[Vec<u8>]) -> Vec<u8> {
    [format!("c{}\n", global.replace(' ', "\n")).as_bytes(), &tuple(args), b"R"].concat()
}
fn storage(class: &str, key: &str, numel: i64) -> Vec<u8> {
    let class = format!("c{}\n", class.replace(' ', "\n")).into_bytes();
    [tuple(&[text("storage"), class, text(key), text("cpu"), int(numel)]), b"Q".to_vec()].concat()
}
fn floats(numel: i64) -> Vec<u8> {
    storage("torch FloatStorage", "0", numel)
}
fn tensor(storage: Vec<u8>, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let hooks = b"}".to_vec();
    let args = [storage, int(offset), ints(shape), ints(strides), b"\x89".to_vec(), hooks];
    call("torch._utils _rebuild_tensor_v2", &args)
}
fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(", &items[..], b"u"].concat()
}
fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

/// A sound archive of four floats around any pickle.
fn archive(value: &[u8]) -> Vec<u8> {
    zip(&records(value))
}
fn records(value: &[u8]) -> Vec<Record> {
    vec![record("a/data.pkl", &pickle(value)), record("a/data/0", &[0x3f; 16]), record("a/version", b"3\n")]
}
fn good() -> Vec<u8> {
    dict(&[("w", tensor(floats(4), 0, &[2, 2], &[2, 1]))])
}
fn with(change: impl FnOnce(&mut Vec<Record>)) -> Vec<u8> {
    let mut records = records(&good());
    change(&mut records);
    zip(&records)
}
fn legacy(object: &[u8], keys: &[&str], data: &[u8]) -> Vec<u8> {
    let keys: Vec<u8> = keys.iter().flat_map(|key| text(key)).collect();
    let keys = pickle(&[b"](", &keys[..], b"e"].concat());
    let magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    [magic, &pickle(object)[..], &keys, data].concat()
}
fn legacy_good() -> Vec<u8> {
    let storage =
        tuple(&[text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("7"), text("cpu"), int(2), b"N".to_vec()]);
    dict(&[("w", tensor([storage, b"Q".to_vec()].concat(), 0, &[2], &[1]))])
}
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Pieces of the `.metadata` of a distributed checkpoint: instances of dataclasses with their fields.
fn instance(class: &str, fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    [format!("c{}\n)", class.replace(' ', "\n")).as_bytes(), b"\x81", &dict(fields), b"b"].concat()
}
fn size(extents: &[i64]) -> Vec<u8> {
    call("torch Size", &[ints(extents)])
}
fn chunk((at, extents): (&[i64], &[i64])) -> Vec<u8> {
    let fields = [("offsets", size(at)), ("sizes", size(extents))];
    instance("torch.distributed.checkpoint.metadata ChunkStorageMetadata", &fields)
}
fn described(shape: &[i64], chunks: &[(&[i64], &[i64])]) -> Vec<u8> {
    let chunks: Vec<u8> = chunks.iter().flat_map(|&piece| chunk(piece)).collect();
    let chunks = [b"](", &chunks[..], b"e"].concat();
    let state = tuple(&[b"ctorch\nfloat32\n".to_vec(), b"N".to_vec()]);
    let class = b"ctorch.distributed.checkpoint.metadata\nTensorProperties\n)\x81";
    let properties = [class, &state[..], b"b"].concat();
    let fields = [("properties", properties), ("size", size(shape)), ("chunks", chunks)];
    instance("torch.distributed.checkpoint.metadata TensorStorageMetadata", &fields)
}
/// Where the piece of `tensor` that starts at `at` lies: file, offset and length.
fn stored(tensor: &str, at: &[i64], (file, offset, length): (&str, i64, i64)) -> Vec<u8> {
    let index = [("fqn", text(tensor)), ("offset", size(at)), ("index", b"N".to_vec())];
    let place = [("relative_path", text(file)), ("offset", int(offset)), ("length", int(length))];
    [
        instance("torch.distributed.checkpoint.metadata MetadataIndex", &index),
        instance("torch.distributed.checkpoint.filesystem _StorageInfo", &place),
    ]
    .concat()
}
fn metadata(tensors: &[(&str, Vec<u8>)], stored: &[Vec<u8>], paths: &[(&str, &[&str])]) -> Vec<u8> {
    let path = |path: &[&str]| tuple(&path.iter().map(|part| text(part)).collect::<Vec<_>>());
    let paths: Vec<_> = paths.iter().map(|&(name, parts)| (name, path(parts))).collect();
    let stored = [b"}(", &stored.concat()[..], b"u"].concat();
    let fields = [("state_dict_metadata", dict(tensors)), ("planner_data", dict(&paths)), ("storage_data", stored)];
    pickle(&instance("torch.distributed.checkpoint.metadata Metadata", &fields))
}

fn containers() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let sound = archive(&good());
    let mut flipped = sound.clone();
    let data = sound.windows(16).position(|window| window == [0x3f; 16]).unwrap();
    flipped[data + 5] ^= 1;
    let mut trailing = sound.clone();
    trailing.extend(b"junk");
    let mut shifted = sound.clone();
    shifted.splice(4..4, [0; 3]);
    let count = sound.len() - 12;
    let mut many = sound.clone();
    many[count - 2..count + 2].copy_from_slice(&[0xff, 0x7f, 0xff, 0x7f]);
    let mut fewer = sound.clone();
    fewer[count - 2..count + 2].copy_from_slice(&[2, 0, 2, 0]);
    let mut disks = sound.clone();
    disks[sound.len() - 18] = 1;
    let mut headless = sound.clone();
    headless[data - "a/data/0".len() - 30] = b'Q';
    vec![
        ("empty", vec![], "an empty file"),
        ("html", b"<!DOCTYPE html>".to_vec(), "a web page"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        ("gzip", b"\x1f\x8b\x08\0".to_vec(), "a gzip file"),
        ("gguf", b"GGUF\x03\0\0\0".to_vec(), "a GGUF file"),
        ("hdf5", b"\x89HDF\r\n".to_vec(), "an HDF5 file"),
        ("npy", b"\x93NUMPY\x01".to_vec(), "a NumPy array"),
        ("tar", [&[0; 257][..], b"ustar\x0000", &[0; 247]].concat(), "a tar archive, as torch 0.1 wrote them"),
        ("bzip2", b"BZh9".to_vec(), "a bzip2 file"),
        ("xz", b"\xfd7zXZ\0".to_vec(), "an xz file"),
        ("zstd", b"\x28\xb5\x2f\xfd\0".to_vec(), "a Zstandard file"),
        ("empty zip", end(0, 0, 0), "an empty zip"),
        ("unknown", b"hello, world, this is text".to_vec(), "of no known kind"),
        ("index in memory", b"{\"weight_map\": {}}".to_vec(), "where its shards are"),
        ("cut zip", sound[..sound.len() - 30].to_vec(), "no end record"),
        ("trailing junk", trailing, "other bytes follow it"),
        ("junk inside", shifted, "does not end where the end record starts"),
        ("too many entries", many, "more entries than the directory has room for"),
        ("too few entries", fewer, "bytes are left over"),
        ("several disks", disks, "several parts"),
        ("flipped bit", flipped, "is damaged: its CRC-32 is"),
        ("flipped pickle", with(|r| r[0].crc = Some(1)), "the archive says 00000001"),
        ("duplicate", with(|r| r.push(record("a/version", b"3\n"))), "two records are called \"a/version\""),
        ("encrypted", with(|r| r[1].flags = 1), "flags 0x0001"),
        ("method", with(|r| r[1].method = 93), "compressed by method 93"),
        ("symlink", with(|r| r[1].attributes = 0o120_777 << 16), "a symbolic link"),
        ("traversal", with(|r| r.push(record("a/../../etc/passwd", b""))), "not a plain relative name"),
        ("absolute", with(|r| r.push(record("/etc/passwd", b""))), "\"/etc/passwd\" is not a plain relative name"),
        ("other local name", with(|r| r[1].local_name = Some("a/data/9".to_owned())), "another name"),
        ("overlap", with(|r| r[1].header = Some(0)), "overlaps what follows"),
        ("beyond", with(|r| r[2].header = Some(1 << 30)), "it lies beyond the directory"),
        ("stored sizes", with(|r| r[1].size = Some(99)), "its two sizes differ"),
        ("no header", headless, "no local header there"),
        ("garbage deflate", with(|r| (r[1].method, r[1].size) = (8, Some(16))), "does not inflate to the 16 bytes"),
        ("no pickle", zip(&[record("notes.txt", b"x")]), "a zip archive without a data.pkl"),
        ("npz", zip(&[record("x.npy", b"x")]), "a NumPy .npz archive"),
        ("export", zip(&[record("m/archive_format", b"pt2")]), "a torch.export program"),
        ("two pickles", with(|r| r.push(record("b/data.pkl", b"x"))), "more than one data.pkl"),
        ("version", with(|r| r[2].content = b"99\n".to_vec()), "its version is none that torch has written"),
        ("byteorder", with(|r| r.push(record("a/byteorder", b"pdp"))), "neither little nor big"),
        ("long note", with(|r| r[2].content = vec![b'3'; 99]), "version or byteorder record is too long"),
        (
            "bomb in a wrapper",
            {
                let bomb = Record { method: 8, size: Some(u32::MAX - 1), ..record("checkpoint.ckpt", b"\x03\0") };
                zip(&[bomb])
            },
            "claims to inflate to 4294967294 bytes",
        ),
        (
            "wrapper in a wrapper",
            {
                let inner = zip(&[record("checkpoint.ckpt", b"x")]);
                zip(&[record("checkpoint.ckpt", &inner)])
            },
            "without a torch checkpoint",
        ),
    ]
}

fn pickles() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let w = |tensor: Vec<u8>| archive(&dict(&[("w", tensor)]));
    let i64_max = i64::MAX;
    let nested = [b"N".to_vec(), b"\x85".repeat(100_000)].concat();
    let cycle = {
        // A module whose only submodule is itself.
        let state = [text("_parameters"), b"}".to_vec(), text("_modules"), [b"}(", &text("m")[..], b"h\x01u"].concat()];
        [b"cx\nNet\n)\x81q\x01}(", &state.concat()[..], b"ub"].concat()
    };
    let expanded = dict(&[("w", tensor(floats(4), 0, &[1 << 40], &[0]))]);
    vec![
        ("command", archive(&call("os system", &[text("id")])), "names os.system"),
        ("command of posix", archive(&call("posix system", &[text("id")])), "names posix.system"),
        ("eval", archive(&call("builtins eval", &[text("1")])), "names builtins.eval"),
        ("subprocess", w(call("subprocess Popen", &[text("id")])), "names subprocess.Popen"),
        ("dynamic import", w(call("importlib import_module", &[text("x")])), "names importlib.import_module"),
        ("cut pickle", with(|r| r[0].content.truncate(9)), "the pickle is cut off"),
        ("no stop", with(|r| r[0].content.truncate(pickle(&good()).len() - 1)), "cut off at byte"),
        ("no tensors", archive(b"}"), "it is an empty dict"),
        ("number", archive(b"K\x05"), "it is an integer"),
        ("nested tuples", archive(&nested), "it is a tuple"),
        ("object", archive(&call("collections deque", &[])), "it is an object of collections.deque"),
        (
            "several models",
            {
                let inner = dict(&[("w", tensor(floats(4), 0, &[4], &[1]))]);
                archive(&dict(&[("model", inner.clone()), ("ema", inner)]))
            },
            "(model, ema); choose one",
        ),
        ("module in itself", archive(&cycle), "contains itself"),
        ("missing storage", w(tensor(storage("torch FloatStorage", "9", 4), 0, &[4], &[1])), "\"9\" is missing"),
        ("storage too short", w(tensor(floats(9), 0, &[9], &[1])), "takes 16 bytes in the file; the pickle says 36"),
        ("storage too long", w(tensor(floats(2), 0, &[2], &[1])), "the pickle says 8"),
        (
            "two descriptions",
            {
                let other = tensor(storage("torch IntStorage", "0", 2), 0, &[2], &[1]);
                archive(&dict(&[("w", tensor(floats(4), 0, &[4], &[1])), ("x", other)]))
            },
            "described twice",
        ),
        ("shape beyond", w(tensor(floats(4), 0, &[5], &[1])), "needs 5 elements"),
        ("offset beyond", w(tensor(floats(4), 3, &[3], &[1])), "of storage \"0\", which holds 4"),
        ("stride beyond", w(tensor(floats(4), 0, &[2], &[9])), "needs 10 elements"),
        ("stride overflow", w(tensor(floats(4), 0, &[4], &[i64_max])), "strides reach beyond any memory"),
        ("offset overflow", w(tensor(floats(4), i64_max, &[1], &[1])), "needs 9223372036854775808"),
        ("shape overflow", w(tensor(floats(4), 0, &[i64_max, i64_max], &[0, 0])), "shape does not fit any memory"),
        ("negative shape", w(tensor(floats(4), 0, &[-1], &[1])), "a size of it is negative"),
        ("negative stride", w(tensor(floats(4), 3, &[2], &[-1])), "a stride of it is negative"),
        ("ranks differ", w(tensor(floats(4), 0, &[2, 2], &[1])), "differ in length"),
        ("65 dimensions", w(tensor(floats(4), 0, &[1; 65], &[1; 65])), "more than 64 dimensions"),
        ("negative storage", w(tensor(floats(-1), 0, &[0], &[1])), "the length of its storage is negative"),
        ("huge storage", w(tensor(floats(i64_max), 0, &[1], &[1])), "larger than any memory"),
        ("expansion bomb", archive(&expanded), "expands to 4398046511104 bytes"),
        ("lookalike class", w(tensor(storage("evil FloatStorage", "0", 4), 0, &[4], &[1])), "of an unknown class"),
        ("no storage", w(tensor(b"N".to_vec(), 0, &[4], &[1])), "its storage is no storage"),
        ("short id", w(tensor([tuple(&[text("storage")]), b"Q".to_vec()].concat(), 0, &[1], &[1])), "persistent id"),
        ("few arguments", w(call("torch._utils _rebuild_tensor_v2", &[floats(4)])), "too few arguments"),
        ("empty parameter", w(call("torch._utils _rebuild_parameter", &[])), "a parameter without data"),
    ]
}

fn others() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let two = [&2u64.to_le_bytes()[..], &[0; 8]].concat();
    let entry = |offsets: &str| format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{offsets}}}}}");
    let twice = "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\
                  \"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}";
    vec![
        ("bare pickle", pickle(b"}"), "a pickle that torch did not write"),
        ("bare attack", pickle(&call("nt system", &[text("id")])), "names nt.system"),
        ("legacy protocol", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe8\x03.".to_vec(), "not 1001"),
        ("legacy cut", legacy(&legacy_good(), &["7"], &two[..12]), "takes 4 bytes in the file; the pickle says 8"),
        ("legacy no data", legacy(&legacy_good(), &["7"], &[]), "takes 0 bytes in the file; the pickle says 8"),
        ("legacy keys missing", legacy(&legacy_good(), &[], &two), "\"7\" is missing from the file"),
        ("legacy keys twice", legacy(&legacy_good(), &["7", "7"], &two), "\"7\" is described twice"),
        ("legacy stray key", legacy(&legacy_good(), &["8"], &two), "\"8\", which nothing refers to"),
        (
            "legacy count",
            legacy(&legacy_good(), &["7"], &[&3u64.to_le_bytes()[..], &[0; 12]].concat()),
            "takes 12 bytes",
        ),
        ("legacy huge count", legacy(&legacy_good(), &["7"], &[0xff; 16]), "takes 18446744073709551615 bytes"),
        ("st hole", safetensors(&entry("[4,12]"), &[0; 12]), "contradicts itself"),
        ("st size", safetensors(&entry("[0,4]"), &[0; 4]), "invalid shape, data type, or offset"),
        ("st long", safetensors(&entry("[0,8]"), &[0; 9]), "describes 8 bytes of data, the file holds 9"),
        ("st short", safetensors(&entry("[0,8]"), &[0; 7]), "the file holds 7"),
        ("st twice", safetensors(twice, &[0; 8]), "the name \"w\" occurs twice"),
        ("st json", safetensors("{\"w\":", &[0; 8]), "the header is malformed"),
        ("st dtype", safetensors(&entry("[0,8]").replace("F32", "Q9"), &[0; 8]), "unknown variant `Q9`"),
        ("st header", [&(1u64 << 30).to_le_bytes()[..], b"{}"].concat(), "the header takes 1073741824 bytes"),
        ("st cut", [&(900u64).to_le_bytes()[..], b"{}"].concat(), "ends before its header does"),
        (
            "st overflow",
            {
                let shape = format!("[{0},{0},{0}]", u64::MAX / 2);
                safetensors(&entry("[0,8]").replace("[2]", &shape), &[0; 8])
            },
            "overflow",
        ),
    ]
}

type Folder = (&'static str, Vec<u8>, Vec<u8>, &'static str);

/// Folders of `torch.distributed.checkpoint`: the metadata, and the one file with pieces.
fn folders() -> Vec<Folder> {
    let piece = archive(&tensor(floats(4), 0, &[2, 2], &[2, 1]));
    let length = piece.len() as i64;
    let (whole, at): ((&[i64], &[i64]), &[i64]) = ((&[0, 0], &[2, 2]), &[0, 0]);
    let here = |tensor: &str| stored(tensor, at, ("__0_0.distcp", 0, length));
    let one = |shape: &[i64], chunks: &[(&[i64], &[i64])], stored: &[Vec<u8>]| {
        metadata(&[("w", described(shape, chunks))], stored, &[])
    };
    let placed = |file, offset, length| one(&[2, 2], &[whole], &[stored("w", at, (file, offset, length))]);
    let sound = one(&[2, 2], &[whole], &[here("w")]);
    let mut flipped = piece.clone();
    let data = piece.windows(16).position(|window| window == [0x3f; 16]).unwrap();
    flipped[data] ^= 0x80;
    let with_piece = |value: &[u8]| {
        let piece = archive(value);
        (one(&[2, 2], &[whole], &[stored("w", at, ("__0_0.distcp", 0, piece.len() as i64))]), piece)
    };
    let (of_dict, dict_piece) = with_piece(&good());
    let (of_shape, other_shape) = with_piece(&tensor(floats(4), 0, &[4, 1], &[1, 1]));
    let (of_dtype, other_dtype) = with_piece(&tensor(storage("torch IntStorage", "0", 4), 0, &[2, 2], &[2, 1]));
    let two = |first: &str, second: &str| {
        let names = [first, second];
        let tensors = names.map(|name| (name, described(&[2, 2], &[whole])));
        let stored = [here(first), stored(second, at, ("__0_0.distcp", length, length))];
        let paths: Vec<Vec<&str>> = names.iter().map(|name| name.split('.').collect()).collect();
        metadata(&tensors, &stored, &[(first, &paths[0]), (second, &paths[1])])
    };
    let shared = metadata(
        &["w", "x"].map(|name| (name, described(&[2, 2], &[whole]))),
        &[here("w"), stored("x", at, ("__0_0.distcp", length - 9, length))],
        &[],
    );
    let compressed = {
        let index = stored("w", at, ("__0_0.distcp", 0, length));
        let list = [text("transform_descriptors"), b"](".to_vec(), text("zstd"), b"e".to_vec()].concat();
        // One more field, before the BUILD that ends the last instance.
        let cut = index.len() - 2;
        one(&[2, 2], &[whole], &[[&index[..cut], &list, b"ub"].concat()])
    };
    let twice = [piece.clone(), piece.clone()].concat();
    vec![
        ("another pickle", pickle(b"}"), piece.clone(), "torch.distributed.checkpoint did not write"),
        ("attack in metadata", pickle(&call("os system", &[text("id")])), piece.clone(), "names os.system"),
        ("cut metadata", sound[..sound.len() - 1].to_vec(), piece.clone(), "pickle is cut off at byte"),
        ("no tensors", metadata(&[], &[], &[]), piece.clone(), "it is a distributed checkpoint without tensors"),
        ("only an optimizer", two("optim.a", "optim.b"), twice.clone(), "of nothing but an optimizer"),
        ("two models", two("model.a", "ema.a"), twice.clone(), "(model, ema); choose one"),
        ("piece in no file", one(&[2, 2], &[whole], &[here("v")]), piece.clone(), "a piece of it is in no file"),
        ("outside the folder", placed("../FILE", 0, length), piece.clone(), "lies in \"../FILE\", which is not"),
        ("absolute file", placed("/etc/passwd", 0, length), piece.clone(), "lies in \"/etc/passwd\""),
        ("file missing", placed("__9_0.distcp", 0, length), piece.clone(), "__9_0.distcp"),
        ("endless name", placed(&"x".repeat(256), 0, length), piece.clone(), "or too long a one"),
        ("beyond the file", placed("__0_0.distcp", 7, length), piece.clone(), "ends at byte "),
        ("negative offset", placed("__0_0.distcp", -7, length), piece.clone(), "no range of bytes"),
        (
            "range overflow",
            placed("__0_0.distcp", i64::MAX, i64::MAX),
            piece.clone(),
            "ends at byte 18446744073709551614",
        ),
        ("shared bytes", shared, twice.clone(), "shares bytes with another"),
        ("compressed", compressed, piece.clone(), "compressed or otherwise transformed"),
        ("hole", one(&[3, 2], &[whole], &[here("w")]), piece.clone(), "do not make up its shape [3, 2]"),
        ("no piece", one(&[2, 2], &[], &[here("w")]), piece.clone(), "the 0 pieces of tensor \"w\""),
        ("ranks", one(&[4], &[whole], &[here("w")]), piece.clone(), "differ in dimensions"),
        ("65 dimensions", one(&[1; 65], &[whole], &[here("w")]), piece.clone(), "no tuple of sizes"),
        (
            "whole overflow",
            one(&[i64::MAX, i64::MAX], &[whole], &[here("w")]),
            piece.clone(),
            "make up its shape [9223372036854775807",
        ),
        ("no archive", sound.clone(), vec![0; piece.len()], "no end record"),
        ("flipped bit", sound, flipped, "is damaged: its CRC-32 is"),
        ("dict as piece", of_dict, dict_piece, "it holds no single tensor"),
        ("other shape", of_shape, other_shape, "another shape than the metadata say"),
        ("other dtype", of_dtype, other_dtype, "of another than the metadata say"),
    ]
}

/// Messages, and what is wrong with them.
#[derive(Default)]
struct Told {
    messages: HashMap<String, &'static str>,
    wrong: Vec<String>,
}

impl Told {
    fn add(&mut self, name: &'static str, message: String, expected: &str) {
        let mut wrong = |what: &str| self.wrong.push(format!("{name}: {what}: {message}"));
        if !message.contains(expected) {
            wrong("not the message it should be");
        }
        if !message.contains("FILE") {
            wrong("does not name the file");
        }
        if message.len() > 600 {
            wrong("too long");
        }
        if let Some(other) = self.messages.insert(message.clone(), name) {
            self.wrong.push(format!("{name} and {other} are told the same: {message}"));
        }
    }
}

#[test]
fn every_hostile_file_is_refused_with_its_own_message() {
    let corpus = [containers(), pickles(), others()].concat();
    assert!(corpus.len() >= 90);
    let mut told = Told::default();
    for (name, bytes, expected) in corpus {
        told.add(name, refusal(&bytes), expected);
    }
    assert!(told.wrong.is_empty(), "{}", told.wrong.join("\n"));
}

/// Whatever is wrong with a tensor or a record, the message says with which, or at which byte.
#[test]
fn messages_name_the_tensor_the_storage_the_record_or_the_byte() {
    let whole_file = ["no tensors", "number", "nested tuples", "object", "several models", "module in itself"];
    for (name, bytes, _) in pickles().into_iter().filter(|(name, ..)| !whole_file.contains(name)) {
        let message = refusal(&bytes);
        let places = ["tensor \"w\"", "tensor \"x\"", "storage \"", "record \"", "at byte ", "names "];
        assert!(places.iter().any(|place| message.contains(place)), "{name}: {message}");
    }
}

#[test]
fn every_hostile_folder_is_refused_with_its_own_message() {
    let mut told_of_folders = Told::default();
    for (name, metadata, pieces, expected) in folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".metadata"), metadata).unwrap();
        std::fs::write(folder.path().join("__0_0.distcp"), pieces).unwrap();
        let message = told(Checkpoint::open(folder.path(), &OpenOptions::default()));
        let place = folder.path().display().to_string();
        told_of_folders.add(name, message.replace(&place, "FILE"), expected);
    }
    assert!(told_of_folders.wrong.is_empty(), "{}", told_of_folders.wrong.join("\n"));
}

/// The indices of sharded checkpoints, beside one sound shard.
#[test]
fn every_hostile_index_is_refused_with_its_own_message() {
    let shard = archive(&good());
    let st = safetensors("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", &[0; 4]);
    let map = |entries: &str| format!("{{\"weight_map\":{{{entries}}}}}");
    let many: Vec<String> = (0..5000).map(|at| format!("\"t{at}\":\"{at}.bin\"")).collect();
    let corpus = [
        ("no map", "{\"metadata\":{}}".to_owned(), "missing field `weight_map`"),
        ("not closed", "{\"weight_map\":{".to_owned(), "EOF while parsing"),
        ("a list", "{\"weight_map\":[]}".to_owned(), "an object of shard names by tensor name"),
        ("empty map", map(""), "names 0 shards"),
        ("too many shards", map(&many.join(",")), "names 5000 shards"),
        ("twice", map("\"w\":\"a.bin\",\"w\":\"a.bin\""), "tensor \"w\" is named twice"),
        ("outside", map("\"w\":\"../a.bin\""), "a shard \"../a.bin\""),
        ("absolute", map("\"w\":\"/etc/passwd\""), "\"/etc/passwd\", which is not a plain file name"),
        ("of Windows", map("\"w\":\"..\\\\a.bin\""), "which is not a plain file name"),
        ("nameless", map("\"w\":\"\""), "a shard \"\", which is not"),
        ("missing shard", map("\"w\":\"b.bin\""), "b.bin"),
        ("missing tensor", map("\"w\":\"a.bin\",\"v\":\"a.bin\""), "tensor \"v\" is in shard \"a.bin\""),
        ("mixed", map("\"w\":\"a.bin\",\"v\":\"a.safetensors\""), "shard \"a.safetensors\" is safetensors"),
        ("full of nothing", map("\"1\":\"1.safetensors\",\"2\":\"2.safetensors\""), "list 18000 tensors"),
        ("itself", map("\"w\":\"x.index.json\""), "x.index.json is no checkpoint that can be read: it is JSON"),
    ];
    let mut told_of_indices = Told::default();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.bin"), shard).unwrap();
    std::fs::write(folder.path().join("a.safetensors"), st).unwrap();
    // Each is as many as a file of its length may list.
    let empty: Vec<String> =
        (0..9000).map(|at| format!("\"{at}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}")).collect();
    for shard in ["1.safetensors", "2.safetensors"] {
        std::fs::write(folder.path().join(shard), safetensors(&format!("{{{}}}", empty.join(",")), &[])).unwrap();
    }
    for (name, index, expected) in corpus {
        let path = folder.path().join("x.index.json");
        std::fs::write(&path, index).unwrap();
        let message = told(Checkpoint::open(&path, &OpenOptions::default()));
        let place = folder.path().display().to_string();
        told_of_indices.add(name, message.replace(&place, "FILE"), expected);
    }
    assert!(told_of_indices.wrong.is_empty(), "{}", told_of_indices.wrong.join("\n"));
}

#[test]
fn one_file_of_a_folder_says_what_to_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("__0_0.distcp");
    std::fs::write(&path, archive(&good())).unwrap();
    let message = told(Checkpoint::open(&path, &OpenOptions::default()));
    assert!(message.contains("one file of a torch.distributed.checkpoint folder; open the folder"), "{message}");
}

/// Every prefix of every sound file, and every single flipped byte, is refused or read, and never panics.
#[test]
fn no_cut_and_no_flip_panics() {
    for sound in [archive(&good()), legacy(&legacy_good(), &["7"], &[&2u64.to_le_bytes()[..], &[0; 8]].concat())] {
        assert!(refusal(&sound).starts_with("accepted"));
        for length in 0..sound.len() {
            assert!(!refusal(&sound[..length]).starts_with("accepted"), "cut at {length}");
        }
        for at in 0..sound.len() {
            let mut flipped = sound.clone();
            flipped[at] ^= 0x55;
            let _ = refusal(&flipped);
        }
    }
}
