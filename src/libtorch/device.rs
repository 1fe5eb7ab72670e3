//! Which devices libtorch has. Asks the driver of the GPUs; no other I/O.

use tch::{Cuda, Device};

use super::error::LibtorchError;

/// The version of libtorch that this was built with.
pub const VERSION: &str = match option_env!("LIBTORCH_VERSION") {
    Some(version) => version,
    None => "of no version",
};

/// Nothing, when libtorch can compute on this device.
///
/// # Errors
/// [`LibtorchError::NoDevice`] saying why not.
pub fn available(device: Device) -> Result<(), LibtorchError> {
    let none = |reason: String| Err(LibtorchError::NoDevice { device: name(device), reason });
    match device {
        Device::Cpu => Ok(()),
        Device::Cuda(_) if !tch::utils::has_cuda() => {
            none("the libtorch that is loaded has no CUDA part, or its driver does not answer".to_owned())
        }
        Device::Cuda(number) => match usize::try_from(Cuda::device_count()).unwrap_or(0) {
            0 => none("libtorch finds no GPU".to_owned()),
            count if number >= count => none(format!("libtorch finds {count}, counted from 0")),
            _ => Ok(()),
        },
        Device::Mps | Device::Vulkan => none("only CPUs and CUDA are supported".to_owned()),
    }
}

/// What people call a device.
pub(super) fn name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(number) => format!("cuda:{number}"),
        Device::Mps => "mps".to_owned(),
        Device::Vulkan => "vulkan".to_owned(),
    }
}
