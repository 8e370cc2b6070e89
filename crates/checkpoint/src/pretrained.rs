//! Networks that a folder describes.

use burn::module::Module;
use burn::tensor::Device;

use crate::ConfigError;

/// A network that is made from the `config.json` beside its weights.
pub trait Pretrained: Module + Sized {
    /// The classes of diffusers (`_class_name`) or transformers (`architectures`) whose config and weights this network
    /// reads.
    const CLASSES: &'static [&'static str];

    /// The network that `config` describes; no weight is drawn before it is used.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], if `config` describes none, or one that is not computed here.
    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError>;

    /// The name of today for a tensor that older files name otherwise; `None` for a name that stays. What is a linear layer
    /// by today's name may be a 1 x 1 convolution by the old one.
    fn rename(_name: &str) -> Option<String> {
        None
    }

    /// Whether the tensor of this name is of a larger network that this one is a part of: no warning is due for it.
    fn ignores(_name: &str) -> bool {
        false
    }

    /// Whether parameters of four dimensions may stay in a file's 16 bits on `device`, where other numbers have 32: they are kernels of
    /// convolutions that take them so. To train a network, load it on an autodiff device, where none may.
    fn keeps_narrow_kernels(_device: &Device) -> bool {
        false
    }

    /// Whether the network computes the tensor of this name where a file lacks it, as a table that follows a formula.
    fn computes(_name: &str) -> bool {
        false
    }
}
