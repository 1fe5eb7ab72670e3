//! Why a zip archive was refused. Every variant names the record or the byte. No I/O.

use super::MAX_DIRECTORY_BYTES;

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZipError {
    /// The origin of the bytes failed.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// Position in the archive.
        offset: u64,
        /// What the origin said.
        #[source]
        source: std::io::Error,
    },
    /// No end record: the file is cut off or is no zip archive.
    #[error("the archive has no end record: it is cut off or was only partly downloaded")]
    NoEnd,
    /// The end records contradict each other or the file.
    #[error("the end record at byte {offset} does not fit the archive: {problem}")]
    BadEnd {
        /// Position in the archive.
        offset: u64,
        /// What does not fit.
        problem: &'static str,
    },
    /// The directory is larger than any checkpoint's.
    #[error("the archive's directory takes {bytes} bytes, more than {MAX_DIRECTORY_BYTES}")]
    DirectoryTooLarge {
        /// Its length as declared.
        bytes: u64,
    },
    /// A directory entry that cannot be.
    #[error("the directory entry at byte {offset} is malformed: {problem}")]
    BadEntry {
        /// Position in the archive.
        offset: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same name twice.
    #[error("two records are called {name:?}")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Two records share bytes, or one reaches into the directory.
    #[error("record {name:?} at byte {offset} overlaps what follows it at byte {next}")]
    Overlap {
        /// The record's name.
        name: String,
        /// Where it starts.
        offset: u64,
        /// Where the next record or the directory starts.
        next: u64,
    },
    /// Encrypted or otherwise transformed.
    #[error("record {name:?} has flags {flags:#06x}: encrypted or patched archives are refused")]
    Flags {
        /// The record's name.
        name: String,
        /// General purpose flags.
        flags: u16,
    },
    /// A method other than stored and deflated.
    #[error("record {name:?} is compressed by method {method}; only stored and deflated records are read")]
    Method {
        /// The record's name.
        name: String,
        /// Method number of the zip specification.
        method: u16,
    },
    /// A symbolic link or a name that tries to be a path elsewhere.
    #[error("record {name:?} is {what}")]
    Unsafe {
        /// The record's name.
        name: String,
        /// What makes it unsafe.
        what: &'static str,
    },
    /// Local header and directory disagree.
    #[error("the header of record {name:?} at byte {offset} contradicts the directory: {problem}")]
    HeaderMismatch {
        /// The record's name.
        name: String,
        /// Where the header is.
        offset: u64,
        /// What differs.
        problem: &'static str,
    },
    /// A record would inflate to more than is allowed.
    #[error("record {name:?} claims to inflate to {bytes} bytes, more than {limit}")]
    InflatesTooMuch {
        /// The record's name.
        name: String,
        /// Declared size.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Deflated data that do not inflate to the declared size.
    #[error("record {name:?} does not inflate to the {bytes} bytes it declares")]
    BadDeflate {
        /// The record's name.
        name: String,
        /// Declared size.
        bytes: u64,
    },
    /// The bytes are not those that were written.
    #[error("record {name:?} is damaged: its CRC-32 is {actual:08x}, the archive says {expected:08x}")]
    Crc {
        /// The record's name.
        name: String,
        /// What the directory says.
        expected: u32,
        /// What the bytes give.
        actual: u32,
    },
}
