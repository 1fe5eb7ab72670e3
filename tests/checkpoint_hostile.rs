//! A corpus of damaged and hostile files, built here byte by byte: each is refused, with a message of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::error::Error;

use wandb_pca::checkpoint::{Checkpoint, OpenOptions};

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
    let checkpoint = match Checkpoint::from_bytes("FILE", bytes, &OpenOptions::default()) {
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
        ("empty zip", end(0, 0, 0), "an empty zip"),
        ("unknown", b"hello, world, this is text".to_vec(), "of no known kind"),
        ("index in memory", b"{\"weight_map\": {}}".to_vec(), "where its shards are"),
        ("cut zip", sound[..sound.len() - 30].to_vec(), "no end record"),
        ("trailing junk", trailing, "no end record"),
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
        ("offset beyond", w(tensor(floats(4), 3, &[2], &[1])), "of storage \"0\", which holds 4"),
        ("stride beyond", w(tensor(floats(4), 0, &[2], &[9])), "needs 10 elements"),
        ("stride overflow", w(tensor(floats(4), 0, &[4], &[i64_max])), "does not fit any memory"),
        ("offset overflow", w(tensor(floats(4), i64_max, &[1], &[1])), "needs 9223372036854775808"),
        ("shape overflow", w(tensor(floats(4), 0, &[i64_max, i64_max], &[0, 0])), "shape does not fit any memory"),
        ("negative shape", w(tensor(floats(4), 0, &[-1], &[1])), "negative"),
        ("negative stride", w(tensor(floats(4), 3, &[2], &[-1])), "offset is negative"),
        ("ranks differ", w(tensor(floats(4), 0, &[2, 2], &[1])), "differ in length"),
        ("65 dimensions", w(tensor(floats(4), 0, &[1; 65], &[1; 65])), "more than 64 dimensions"),
        ("negative storage", w(tensor(floats(-1), 0, &[0], &[1])), "no integer"),
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
        ("legacy no data", legacy(&legacy_good(), &["7"], &[]), "storage \"7\" is missing"),
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

#[test]
fn every_hostile_file_is_refused_with_its_own_message() {
    let corpus = [containers(), pickles(), others()].concat();
    assert!(corpus.len() >= 80);
    let mut messages: HashMap<String, &str> = HashMap::new();
    let mut wrong = Vec::new();
    for (name, bytes, expected) in corpus {
        let message = refusal(&bytes);
        if !message.contains(expected) {
            wrong.push(format!("{name}: {message}"));
        }
        if message.len() > 600 {
            wrong.push(format!("{name}: the message is {} bytes long", message.len()));
        }
        messages.insert(message, name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(messages.len() >= 75, "only {} different messages", messages.len());
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
