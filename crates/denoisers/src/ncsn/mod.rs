//! The noise-conditional score networks of SMLD (Song and Ermon 2019, "Generative Modeling by Estimating Gradients of the Data
//! Distribution", appendix A; 2020, "Improved Techniques for Training Score-Based Generative Models", appendix B), under the
//! names of the files that were published.
//!
//! ```text
//! s(x, i) = F(2 x - 1, i)                NCSN: the level i conditions every norm
//! s(x, i) = F(2 x - 1) / sigma_i         NCSNv2: the level divides the output, and F does not know it
//! ```
//!
//! F is a RefineNet (Lin et al. 2017): residual stages, the deeper ones dilated in place of halved, whose results are refined
//! from the deepest to the shallowest.
//!
//! | file | what it holds |
//! |---|---|
//! | `config` | [`NcsnConfig`], levels of noise |
//! | `norm` | instance norm++, by itself or conditional on the level |
//! | `residual` | the blocks of a stage |
//! | `refine` | the blocks that join two stages |
//! | `model` | [`Ncsn`] |
//! | `file` | `.pth` files of training: the weights trained, or their average |

mod config;
mod file;
mod model;
mod norm;
mod refine;
mod residual;

pub use config::{Architecture, NcsnConfig, Nonlinearity, SigmaSpacing};
pub use file::Weights;
pub use model::Ncsn;
