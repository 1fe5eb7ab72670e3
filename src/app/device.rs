//! Where the products of task vectors are made: by this program's own loops, or by libtorch on a CPU or a GPU.

use std::fmt;
use std::str::FromStr;

use crate::analysis::{Backend, BuiltIn};
#[cfg(feature = "tch")]
use crate::libtorch::{self, Torch};

use super::error::AppError;

/// What makes products, and on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// This program, on the CPU.
    #[default]
    BuiltIn,
    /// libtorch on the first GPU where that is expected to be faster, otherwise this program.
    Auto,
    /// libtorch on the CPU.
    Cpu,
    /// libtorch on the GPU of this number.
    Cuda(usize),
}

/// How many rows a thread of the CPU is worth.
///
/// A row costs a GPU the copy of its bytes to it, four a parameter, and a CPU a multiplication with each of the n rows. With
/// 20 · 10⁹ of these a second and thread, and 10 · 10⁹ bytes a second to the GPU, a GPU is ahead from n = 8 rows a thread
/// on. Reckoned, not measured: see docs/libtorch.md.
const ROWS_PER_THREAD: usize = 8;

impl Device {
    /// Nothing, when there is such a device.
    ///
    /// # Errors
    /// [`AppError::NoLibtorch`], [`AppError::Libtorch`].
    pub(super) fn check(self) -> Result<(), AppError> {
        self.backend(0).map(drop)
    }

    /// What makes the products of this many rows.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn backend(self, rows: usize) -> Result<Box<dyn Backend>, AppError> {
        match self {
            Self::BuiltIn => Ok(Box::new(BuiltIn)),
            Self::Auto if rows >= ROWS_PER_THREAD * rayon::current_num_threads() && first_gpu_is_there() => {
                libtorch_on(Self::Cuda(0))
            }
            Self::Auto => Ok(Box::new(BuiltIn)),
            Self::Cpu | Self::Cuda(_) => libtorch_on(self),
        }
    }
}

#[cfg(feature = "tch")]
impl Device {
    /// The device of libtorch for work that only libtorch does.
    pub(super) fn of_libtorch(self) -> libtorch::Device {
        match self {
            Self::BuiltIn | Self::Cpu => libtorch::Device::Cpu,
            Self::Auto if first_gpu_is_there() => libtorch::Device::Cuda(0),
            Self::Auto => libtorch::Device::Cpu,
            Self::Cuda(number) => libtorch::Device::Cuda(number),
        }
    }
}

#[cfg(feature = "tch")]
fn first_gpu_is_there() -> bool {
    libtorch::available(libtorch::Device::Cuda(0)).is_ok()
}

#[cfg(not(feature = "tch"))]
fn first_gpu_is_there() -> bool {
    false
}

#[cfg(feature = "tch")]
fn libtorch_on(device: Device) -> Result<Box<dyn Backend>, AppError> {
    let torch = Torch::on(device.of_libtorch());
    Ok(Box::new(torch.map_err(AppError::libtorch(format!("compute on {device}")))?))
}

#[cfg(not(feature = "tch"))]
fn libtorch_on(device: Device) -> Result<Box<dyn Backend>, AppError> {
    Err(AppError::NoLibtorch { what: format!("to compute on {device}") })
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda);
        match text {
            "built-in" => Ok(Self::BuiltIn),
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => number(text).ok_or_else(|| "one of built-in, cpu, cuda:N and auto is meant".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for device in [Device::BuiltIn, Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for odd in ["", "gpu", "cuda:", "cuda:-1", "CPU"] {
            assert!(odd.parse::<Device>().is_err(), "{odd}");
        }
    }

    #[test]
    fn few_rows_are_never_worth_a_gpu() {
        for device in [Device::BuiltIn, Device::Auto] {
            assert_eq!(device.backend(2).unwrap().name(), "built-in");
        }
    }

    #[cfg(not(feature = "tch"))]
    #[test]
    fn without_libtorch_its_devices_are_refused() {
        for device in [Device::Cpu, Device::Cuda(0)] {
            let error = device.check().unwrap_err();
            assert!(matches!(error, AppError::NoLibtorch { .. }), "{error}");
        }
        assert_eq!(Device::Auto.backend(usize::MAX).unwrap().name(), "built-in");
    }
}
