//! How much memory opening a file may take, whatever the file says: its own length and 64 MiB, divided among what is kept
//! at the same time. Pure.

const MIB: usize = 1 << 20;

/// What one file, or one folder of files that belong together, may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    len: usize,
}

impl Budget {
    /// For this many bytes of file.
    pub(super) fn of(len: u64) -> Self {
        Self { len: usize::try_from(len).unwrap_or(usize::MAX) }
    }

    /// For a pickle that lies deflated in the file: about a hundred times what a model with as many weights needs.
    pub(super) fn inflated_pickle(self) -> usize {
        6 * MIB + self.len / 4
    }

    /// For the values of a pickle: 32 MiB hold about 20,000 tensors, and larger files may have more. Its stack comes to
    /// 8 MiB at most.
    pub(super) fn values(self) -> usize {
        32 * MIB + self.len / 2
    }

    /// For what is kept of the tensors: names, shapes and places.
    pub(super) fn listing(self) -> usize {
        16 * MIB + self.len / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_they_are_the_file_and_64_mib() {
        for len in [0, 1 << 20, 1 << 30] {
            let budget = Budget::of(len);
            let all = budget.inflated_pickle() + budget.values() + (8 << 20) + budget.listing();
            assert!(all as u64 <= len + (64 << 20));
        }
        assert!(Budget::of(u64::MAX).values() > 1 << 62);
    }
}
