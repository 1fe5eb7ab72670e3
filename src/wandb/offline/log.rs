//! The log as a file: appending records, and reading them back while more are appended. Blocking file I/O.
//!
//! A record is with the operating system when [`LogWriter::append`] returns, so that it outlives the process however that
//! ends; [`LogWriter::sync`] makes it outlive the machine, too.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use prost::Message as _;

use super::super::error::WandbError;
use super::folder::failed;
use super::framing::{Damage, FILE_HEADER, Framed, Unframer, frame};
use super::record::{Content, Control, Record};

/// Appends to a log. Nobody else may write to it or send it meanwhile: the file is locked.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: File,
    path: std::path::PathBuf,
    /// Where the next record begins.
    position: u64,
    /// Number of the next record.
    next: i64,
    /// Something was written since the last `sync`.
    dirty: bool,
}

impl LogWriter {
    /// A new log; there must be none.
    pub(crate) fn create(path: &Path) -> Result<Self, WandbError> {
        let create = || {
            let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
            lock(&file)?;
            file.write_all(&FILE_HEADER)?;
            Ok(file)
        };
        let file = create().map_err(|source| failed("create", path, source))?;
        Ok(Self { file, path: path.to_owned(), position: FILE_HEADER.len() as u64, next: 1, dirty: true })
    }

    /// The number that the next record will get.
    pub(crate) fn next_number(&self) -> i64 {
        self.next
    }

    /// Where the log ends.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Appends records together: after a crash either all before one of them are there, or all.
    pub(crate) fn append(&mut self, contents: Vec<Content>) -> Result<(), WandbError> {
        let mut bytes = Vec::new();
        let mut number = self.next;
        for content in contents {
            // Version 0.28.2 of the official `sync` waits for ever without it.
            let control = matches!(content, Content::Run(_) | Content::Exit(_));
            let control = control.then(|| Control { mailbox_slot: "wandb-pca".to_owned() });
            let record = Record { num: number, control, content: Some(content) }.encode_to_vec();
            frame(self.position + bytes.len() as u64, &record, &mut bytes);
            number += 1;
        }
        if let Err(source) = self.file.write_all(&bytes) {
            // What was written of it must not stand before what is written later.
            let _ = self.file.set_len(self.position).and_then(|()| self.file.seek(SeekFrom::Start(self.position)));
            return Err(failed("write", &self.path, source));
        }
        (self.position, self.next, self.dirty) = (self.position + bytes.len() as u64, number, true);
        Ok(())
    }

    /// A handle to sync with and whether there is something to sync; what is appended later is not covered.
    pub(crate) fn begin_sync(&mut self) -> Result<Option<File>, WandbError> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(None);
        }
        self.file.try_clone().map(Some).map_err(|source| failed("write", &self.path, source))
    }
}

/// Locks a log for one writer or sender; file systems without locks are trusted.
fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What stands at the next place of a log.
#[derive(Debug)]
pub(crate) enum Entry {
    Record(Record),
    /// A place that is not sound; reading goes on behind it.
    Damage(Damage),
}

/// Reads a log from its beginning, and on as it grows.
#[derive(Debug)]
pub(crate) struct LogReader {
    file: File,
    path: std::path::PathBuf,
    unframer: Unframer,
    /// Position just behind the last record.
    end: u64,
}

impl LogReader {
    /// Opens a log that its writer may still have open.
    pub(crate) fn open(path: &Path) -> Result<Self, WandbError> {
        let file = File::open(path).map_err(|source| failed("open", path, source))?;
        Ok(Self { file, path: path.to_owned(), unframer: Unframer::default(), end: 0 })
    }

    /// Opens a log that nobody writes to or sends, and keeps it so.
    ///
    /// # Errors
    /// [`WandbError::Busy`] when somebody does.
    pub(crate) fn open_alone(path: &Path) -> Result<Self, WandbError> {
        let reader = Self::open(path)?;
        match lock(&reader.file) {
            Ok(()) => Ok(reader),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(WandbError::Busy { path: path.to_owned() }),
            Err(source) => Err(failed("lock", path, source)),
        }
    }

    /// What stands next; nothing at the end, where later calls find what was appended meanwhile.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, WandbError> {
        loop {
            match self.unframer.next() {
                Some(Framed::Record { bytes, end }) => {
                    let at = std::mem::replace(&mut self.end, end);
                    return Ok(Some(match Record::decode(bytes.as_slice()) {
                        Ok(record) => Entry::Record(record),
                        Err(_) => Entry::Damage(Damage { at, reason: "a record that is no protobuf message" }),
                    }));
                }
                Some(Framed::Damage(damage)) => return Ok(Some(Entry::Damage(damage))),
                None => {}
            }
            let mut buffer = vec![0; 64 << 10];
            let read = self.file.read(&mut buffer).map_err(|source| failed("read", &self.path, source))?;
            if read == 0 {
                return Ok(None);
            }
            self.unframer.push(buffer.get(..read).unwrap_or_default());
        }
    }

    /// At the end: the beginning of a record whose writer was stopped, if there is one.
    pub(crate) fn tail(&self) -> Option<Damage> {
        self.unframer.tail()
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::ExitRecord;
    use super::*;

    fn exit(code: i32) -> Content {
        Content::Exit(ExitRecord { exit_code: code, runtime: 0 })
    }

    fn codes(reader: &mut LogReader) -> Vec<(i64, i32)> {
        let mut codes = Vec::new();
        while let Some(Entry::Record(record)) = reader.next().unwrap() {
            let Some(Content::Exit(exit)) = record.content else { panic!("{record:?}") };
            codes.push((record.num, exit.exit_code));
        }
        codes
    }

    #[test]
    fn a_reader_follows_a_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run-a.wandb");
        let mut writer = LogWriter::create(&path).unwrap();
        assert!(LogWriter::create(&path).is_err());
        let mut reader = LogReader::open(&path).unwrap();
        assert_eq!(codes(&mut reader), []);
        writer.append(vec![exit(5), exit(6)]).unwrap();
        assert_eq!(codes(&mut reader), [(1, 5), (2, 6)]);
        writer.append(vec![exit(7)]).unwrap();
        assert_eq!(codes(&mut reader), [(3, 7)]);
        assert_eq!((reader.tail(), writer.next_number()), (None, 4));
        assert!(writer.begin_sync().unwrap().is_some() && writer.begin_sync().unwrap().is_none());
        assert_eq!(writer.position(), std::fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn only_one_may_write_or_send() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run-a.wandb");
        let writer = LogWriter::create(&path).unwrap();
        assert!(matches!(LogReader::open_alone(&path), Err(WandbError::Busy { .. })));
        drop(writer);
        let sender = LogReader::open_alone(&path).unwrap();
        assert!(matches!(LogReader::open_alone(&path), Err(WandbError::Busy { .. })));
        drop(sender);
        LogReader::open_alone(&path).unwrap();
    }

    #[test]
    fn a_record_that_is_no_message_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run-a.wandb");
        let mut bytes = FILE_HEADER.to_vec();
        frame(7, &[0xff; 9], &mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let mut reader = LogReader::open(&path).unwrap();
        assert!(matches!(reader.next().unwrap(), Some(Entry::Damage(_))));
        assert!(reader.next().unwrap().is_none());
    }
}
