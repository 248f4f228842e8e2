//! Which device runs: what the user asked for, what there is, and why one was taken.

use std::fmt;
use std::str::FromStr;

use super::gpu::{Adapter, GpuDevice, GpuOptions, adapters};
use super::{CpuDevice, Device, DeviceKind};
use crate::error::Error;

/// What to install where no driver is found.
const INSTALL: &str = "install your GPU's driver: Vulkan on Linux (Debian and Ubuntu: libvulkan1 with \
                       mesa-vulkan-drivers or nvidia-driver), Vulkan or DirectX 12 on Windows; macOS has \
                       Metal built in";

/// A request for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// A real GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU path of this program.
    Cpu,
    /// A GPU driver, even one that runs on the processor: the first, or the one of that number.
    Gpu(Option<usize>),
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || {
            Error::NoDevice(format!(
                "there is no device `{text}`: write auto, cpu, gpu or gpu:N, N being a number in the \
                 list of `distil-gpu devices`"
            ))
        };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu(None)),
            _ => {
                let number = text.strip_prefix("gpu:").ok_or_else(unknown)?;
                number.parse().map(|number| Self::Gpu(Some(number))).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(None) => f.write_str("gpu"),
            Self::Gpu(Some(number)) => write!(f, "gpu:{number}"),
        }
    }
}

/// A device, open, and why it was taken.
pub struct Selected {
    /// The device.
    pub device: Box<dyn Device>,
    /// Which it is and why, in words for the user.
    pub reason: String,
}

impl fmt::Debug for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selected").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Opens the device asked for. `options` matter to GPUs alone.
///
/// # Errors
/// [`Error::NoDevice`] when there is none such, saying what there is and what to do.
pub fn select(choice: Choice, options: GpuOptions) -> Result<Selected, Error> {
    match choice {
        Choice::Cpu => Ok(cpu("as asked")),
        Choice::Auto => auto(&adapters(), options),
        Choice::Gpu(None) => match adapters().first() {
            Some(adapter) => gpu(adapter, options, "as asked"),
            None => Err(Error::NoDevice(format!("no GPU driver found: {INSTALL}"))),
        },
        Choice::Gpu(Some(number)) => {
            let adapters = adapters();
            let adapter = adapters.get(number).ok_or_else(|| no_such(number, &adapters))?;
            gpu(adapter, options, "as asked")
        }
    }
}

/// The first real GPU that opens, else the CPU.
fn auto(adapters: &[Adapter], options: GpuOptions) -> Result<Selected, Error> {
    let (real, software): (Vec<_>, Vec<_>) =
        adapters.iter().partition(|adapter| adapter.info.kind < DeviceKind::SoftwareGpu);
    let mut refusals = Vec::new();
    for adapter in real {
        let why = match adapter.info.kind {
            DeviceKind::DiscreteGpu => "the first discrete GPU",
            DeviceKind::IntegratedGpu => "an integrated GPU, and no discrete one is there",
            _ => "the only kind of GPU there is",
        };
        match gpu(adapter, options, why) {
            Ok(selected) => return Ok(selected),
            Err(error) => refusals.push(error.to_string()),
        }
    }
    if !refusals.is_empty() {
        return Ok(cpu(&format!("no GPU can be used: {}", refusals.join("; "))));
    }
    if software.is_empty() {
        return Ok(cpu("no GPU driver found"));
    }
    let names: Vec<&str> = software.iter().map(|adapter| adapter.info.name.as_str()).collect();
    let drivers = match names.len() {
        1 => "1 driver runs".to_owned(),
        count => format!("{count} drivers run"),
    };
    Ok(cpu(&format!(
        "no GPU found: {drivers} on the processor ({}), so the CPU path is used; --device gpu takes \
         the first driver all the same",
        names.join(", ")
    )))
}

fn gpu(adapter: &Adapter, options: GpuOptions, why: &str) -> Result<Selected, Error> {
    let device = GpuDevice::new(adapter, options)?;
    let reason = format!("{} through {}: {why}", adapter.info.name, adapter.info.backend);
    Ok(Selected { device: Box::new(device), reason })
}

fn cpu(why: &str) -> Selected {
    let device = CpuDevice::<f32>::new();
    let reason = format!("{}: {why}", device.info().name);
    Selected { device: Box::new(device), reason }
}

fn no_such(number: usize, adapters: &[Adapter]) -> Error {
    if adapters.is_empty() {
        return Error::NoDevice(format!(
            "there is no gpu:{number}, no GPU driver found: {INSTALL}"
        ));
    }
    let list: Vec<String> = adapters
        .iter()
        .enumerate()
        .map(|(number, adapter)| format!("gpu:{number} is {}", adapter.info.name))
        .collect();
    Error::NoDevice(format!("there is no gpu:{number}: {}", list.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_as_they_print() {
        for choice in [Choice::Auto, Choice::Cpu, Choice::Gpu(None), Choice::Gpu(Some(3))] {
            assert_eq!(choice.to_string().parse::<Choice>().unwrap(), choice);
        }
        for wrong in ["", "GPU", "cuda", "gpu:", "gpu:-1", "gpu:x", "cpu:0"] {
            let error = wrong.parse::<Choice>().unwrap_err().to_string();
            assert!(error.contains("auto, cpu, gpu or gpu:N"), "{error}");
        }
    }

    #[test]
    fn the_cpu_is_always_there_and_says_why() {
        let asked = select(Choice::Cpu, GpuOptions::default()).unwrap();
        assert_eq!(asked.device.info().kind, DeviceKind::Cpu);
        assert!(asked.reason.contains("as asked"), "{}", asked.reason);
        let left = auto(&[], GpuOptions::default()).unwrap();
        assert_eq!(left.device.info().kind, DeviceKind::Cpu);
        assert!(left.reason.contains("no GPU driver found"), "{}", left.reason);
    }

    #[test]
    fn a_number_beyond_the_list_is_refused_with_the_list() {
        let error = select(Choice::Gpu(Some(999)), GpuOptions::default()).unwrap_err().to_string();
        assert!(error.contains("there is no gpu:999"), "{error}");
    }
}
