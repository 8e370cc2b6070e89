//! Model files: what the Hugging Face Hub holds, to and from Burn modules, with typed errors.
//!
//! [`Contents::open`] takes a folder (a model, a pipeline, a scheduler) or a file (safetensors, PyTorch's own, a whole model in
//! one) and says what is there; [`StoredModel::load`] makes a network of a config and its weights. Below that, a
//! [`Checkpoint`] is named tensors, and any module can be loaded from one.
//!
//! ```
//! use burn::nn::LinearConfig;
//! use burn::tensor::Device;
//! use kiln_checkpoint::{Checkpoint, SaveOptions, StoredDType, to_bytes};
//!
//! let device = Device::flex();
//! let trained = LinearConfig::new(4, 2).init(&device);
//! let file = to_bytes(&trained, &SaveOptions { dtype: StoredDType::F16, ..SaveOptions::default() })?;
//!
//! let checkpoint = Checkpoint::from_bytes(file)?;
//! assert_eq!(checkpoint.info("weight").unwrap().shape, [2, 4]); // as PyTorch keeps it
//! let loaded = checkpoint.load_into(LinearConfig::new(4, 2).init(&device))?;
//! assert!(loaded.surplus.is_empty());
//! # Ok::<(), kiln_checkpoint::CheckpointError>(())
//! ```
//!
//! **Names and layouts on disk are PyTorch's.** Linear weights are `[out, in]`, norms have `weight` and `bias`, and the
//! variants of an enum leave no trace in a name: a file written here is a state dict, and a state dict loads here.
//!
//! **Nothing is trusted, and nothing is run.** A header is checked in full before any tensor is read: lengths, offsets, shapes,
//! types. A pickle is followed without running anything, and may ask for no more than tensors. What is wrong comes back as a
//! [`CheckpointError`] that names file and tensor. A file takes no more memory than it has bytes, and 32 MiB.
//!
//! **Files are mapped.** A tensor is read when it is asked for, so that loading a module takes the memory of the module and of
//! one tensor as it is stored. Nobody may cut a file short meanwhile: one that has shrunk is an error when its next tensor is
//! read, but the system ends a process (`SIGBUS`) that reads where a file was a moment before.
//!
//! **Files appear whole or not at all**: they are written beside their final place, flushed to the disk, then renamed.

mod atomic;
mod checkpoint;
pub mod config;
mod contents;
mod convert;
mod elements;
mod entry;
mod error;
mod folder;
mod header;
#[cfg(feature = "hub")]
pub mod hub;
pub mod layout;
mod load;
mod lora;
mod pretrained;
mod save;
mod shards;
mod source;
mod torch;
mod view;

pub use atomic::write_atomically;
pub use checkpoint::{Checkpoint, TensorInfo};
pub use config::ConfigError;
pub use contents::{Contents, OpenOptions, StoredModel, StoredPipeline};
pub use convert::{FolderOptions, write_folder, write_folder_with};
pub use error::CheckpointError;
pub use load::{Loaded, Parameter, parameters};
pub use lora::{Adapter, Lora, LoraError, LoraPart};
pub use pretrained::Pretrained;
pub use safetensors::Dtype;
pub use save::{SaveOptions, StoredDType, module_tensors, save, save_tensors, tensors_to_bytes, to_bytes};
pub use view::{Arrangement, View};
