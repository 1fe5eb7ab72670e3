//! The machine's hands: taking bytes off the stream and values on and off the stack, each within bounds. No I/O.

use super::machine::Machine;
use super::{MAX_LINE, MAX_STACK, PickleError, Span, Value};

impl Machine<'_> {
    pub(super) fn line(&mut self) -> Result<Span, PickleError> {
        let rest = &self.bytes[self.at..];
        let window = rest.get(..MAX_LINE).unwrap_or(rest);
        let Some(length) = window.iter().position(|&byte| byte == b'\n') else {
            return Err(if window.len() < rest.len() {
                PickleError::LineTooLong { offset: self.op }
            } else {
                PickleError::Truncated { offset: self.op }
            });
        };
        let span = self.take(length)?;
        self.at += 1;
        Ok(span)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<Span, PickleError> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(PickleError::Truncated { offset: self.op })?;
        // Both fit: a pickle is at most MAX_PICKLE_BYTES long.
        let span = Span { start: self.at as u32, end: end as u32 };
        self.at = end;
        Ok(span)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let array = self.bytes[self.at..].first_chunk().copied();
        let array = array.ok_or(PickleError::Truncated { offset: self.op })?;
        self.at += N;
        Ok(array)
    }

    pub(super) fn push(&mut self, value: Value) -> Result<(), PickleError> {
        if self.stack.len() >= MAX_STACK {
            return Err(PickleError::StackTooDeep { offset: self.op });
        }
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn mark(&mut self) -> Result<(), PickleError> {
        if self.marks.len() >= MAX_STACK {
            return Err(PickleError::StackTooDeep { offset: self.op });
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Lowest stack position that may be popped: a mark fences what lies below it.
    pub(super) fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<Value, PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(PickleError::StackUnderflow { offset: self.op });
        }
        self.stack.pop().ok_or(PickleError::StackUnderflow { offset: self.op })
    }

    pub(super) fn pop_two(&mut self) -> Result<(Value, Value), PickleError> {
        let second = self.pop()?;
        Ok((self.pop()?, second))
    }

    pub(super) fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, PickleError> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        let start = start.ok_or(PickleError::StackUnderflow { offset: self.op })?;
        Ok(self.stack.drain(start..).collect())
    }

    pub(super) fn pop_to_mark(&mut self) -> Result<Vec<Value>, PickleError> {
        let height = self.marks.pop().ok_or(PickleError::NoMark { offset: self.op })?;
        // Not `split_off`: from 0 it hands over the whole capacity of the stack.
        Ok(self.stack.drain(height..).collect())
    }

    /// POP drops a value, or the mark when it is on top.
    pub(super) fn discard(&mut self) -> Result<(), PickleError> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    pub(super) fn duplicate(&mut self) -> Result<(), PickleError> {
        let top = self.pop()?;
        self.push(top)?;
        self.push(top)
    }
}
