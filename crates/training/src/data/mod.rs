//! Data sets: IDX files and folders of pictures, batches of them, and the order in which they are drawn.
//!
//! [`Pictures`] holds a whole data set as bytes, `[count, channels, height, width]`. It comes from
//!
//! - [`Pictures::idx`]: MNIST's own format, gzipped or not;
//! - [`Pictures::folder`]: PNG, JPEG and WebP files, one subfolder a class or none, made one size;
//! - [`Pictures::open`]: whichever of the two a path is.
//!
//! [`Pictures::batch`] gives `f32` in -1..1, and [`Shuffle`] says which picture is the `n`-th to be drawn, as a pure
//! function of seed and `n`: a run that goes on from step `k` needs no state but `k`.
//!
//! ```
//! use kiln_training::data::{Pictures, Shuffle};
//! # fn main() -> Result<(), kiln_training::data::DataError> {
//! let pictures = Pictures::new([4, 1, 2, 2], vec![0; 16])?;
//! let order = Shuffle::new(7, pictures.len());
//! let step = 3;
//! let batch = pictures.batch(&order.draw(step * 2, 2));
//! assert_eq!(batch.shape, [2, 1, 2, 2]);
//! assert_eq!(batch.pixels, [-1.0; 8]);
//! # Ok(())
//! # }
//! ```

mod error;
mod folder;
mod idx;
mod pictures;
mod shuffle;

pub use error::DataError;
pub use folder::FolderOptions;
pub use idx::Split;
pub use pictures::{Batch, OpenOptions, Pictures};
pub use shuffle::Shuffle;
